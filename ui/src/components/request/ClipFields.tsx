// What only clips have: how long, how fast, how they end, and how two networks share the steps.
import { useState } from 'react';

import type { ContextRule, VideoRule } from '@/api/types';
import { Segmented } from '@/components/ui/Segmented';
import { SliderField } from '@/components/ui/Slider';
import { SwitchRow } from '@/components/ui/Switch';
import type { DraftVideo } from '@/lib/draft';
import { makesClip } from './ability';
import { PictureField } from './PictureField';
import { messagesOf, type RequestFieldsProps } from './RequestFields';

/** The nearest number of frames that the model makes. */
export function roundFrames(
  frames: number,
  { frames: range, frame_step }: Pick<VideoRule, 'frames' | 'frame_step'>,
): number {
  const step = Math.max(1, frame_step);
  const largest = Math.floor((range.max - 1) / step) * step + 1;
  const wanted = Math.min(range.max, Math.max(range.min, frames));
  return Math.min(largest, Math.floor((wanted - 1 + Math.floor(step / 2)) / step) * step + 1);
}

const shortSeconds = (seconds: number) => Number(seconds.toFixed(2));

interface ClipFieldsProps extends RequestFieldsProps {
  /** The result on the stage, as a reference. */
  staged: string | null;
}

export function ClipFields({ draft, model, staged, onChange, ...about }: ClipFieldsProps) {
  const { video: rule, true_cfg } = model.capabilities;
  const { video } = draft;
  const [chosenUnit, setUnit] = useState<'frames' | 'seconds'>();
  if (!rule || !makesClip(model.capabilities, draft)) return null;
  const unit = video.seconds !== null ? 'seconds' : video.frames !== null ? 'frames' : chosenUnit;
  const isInSeconds = unit === 'seconds';
  const change = (next: Partial<DraftVideo>) => onChange({ video: { ...video, ...next } });

  // Windows make clips possible that are longer than what the network sees at once.
  const longest = rule.context && video.context_frames !== null ? rule.context.longest : null;
  const range = { ...rule.frames, max: longest ?? rule.frames.max };
  const fps = video.fps ?? rule.fps.default;
  const asked =
    video.seconds !== null
      ? Math.round(video.seconds * fps)
      : (video.frames ?? rule.frames.default);
  const frames = roundFrames(asked, { frames: range, frame_step: rule.frame_step });
  const step = Math.max(1, rule.frame_step);
  const length = {
    hint: `${frames} frames at ${fps} per second: ${shortSeconds(frames / fps)} s.`,
    ...messagesOf(about, 'video.frames', 'video.seconds', 'video'),
  };

  return (
    <div role="group" aria-label="Clip" className="flex flex-col gap-4">
      <div className="flex flex-col gap-1.5">
        <div className="flex items-center justify-between gap-2">
          <span className="text-ink-2 text-sm font-medium">Length in</span>
          <Segmented<'frames' | 'seconds'>
            label="Length in"
            value={isInSeconds ? 'seconds' : 'frames'}
            options={[
              { value: 'frames', label: 'Frames' },
              { value: 'seconds', label: 'Seconds' },
            ]}
            onValue={(next) => {
              setUnit(next);
              if (video.frames === null && video.seconds === null) return;
              change(
                next === 'seconds'
                  ? { frames: null, seconds: shortSeconds(frames / fps) }
                  : { frames, seconds: null },
              );
            }}
          />
        </div>
        {isInSeconds ? (
          <SliderField
            label="Seconds"
            value={video.seconds}
            fallback={shortSeconds(rule.frames.default / fps)}
            min={shortSeconds(range.min / fps)}
            max={shortSeconds(range.max / fps)}
            step={0.1}
            onValue={(seconds) => change({ seconds, frames: null })}
            {...length}
          />
        ) : (
          <SliderField
            label="Frames"
            value={video.frames}
            fallback={rule.frames.default}
            min={range.min}
            max={range.max}
            step={step}
            onValue={(next) => change({ frames: next, seconds: null })}
            {...length}
          />
        )}
      </div>
      <SliderField
        label="Frames/s"
        value={video.fps}
        fallback={rule.fps.default}
        min={rule.fps.min}
        max={rule.fps.max}
        onValue={(next) => change({ fps: next })}
        {...messagesOf(about, 'video.fps')}
      />
      {rule.sound && (
        <SwitchRow
          label="Sound"
          hint={messagesOf(about, 'video.sound').notes?.[0] ?? 'Made with the pictures, in step.'}
          isOn={video.sound !== false}
          onChange={(isOn) => change({ sound: isOn ? null : false })}
        />
      )}
      {rule.end_image && draft.image !== null && (
        <PictureField
          label="End with a picture"
          member="video.end_image"
          value={video.end_image}
          staged={staged}
          onValue={(end_image) => change({ end_image })}
          {...messagesOf(about, 'video.end_image')}
        />
      )}
      {rule.experts && true_cfg && (
        <SliderField
          label="Guidance, low noise"
          value={video.cfg_2}
          fallback={draft.true_cfg ?? true_cfg.default}
          min={true_cfg.min}
          max={true_cfg.max}
          step={0.1}
          hint="Of the second network, which finishes the clip."
          onValue={(cfg_2) => change({ cfg_2 })}
          {...messagesOf(about, 'video.cfg_2')}
        />
      )}
      {rule.experts && <HandOver {...about} draft={draft} model={model} onChange={onChange} />}
      {rule.context && (
        <Windows {...about} draft={draft} model={model} onChange={onChange} rule={rule.context} />
      )}
    </div>
  );
}

interface WindowsProps extends RequestFieldsProps {
  rule: ContextRule;
}

/** Windows for clips that are longer than what the network sees at once. */
function Windows({ draft, model, rule, onChange, ...about }: WindowsProps) {
  const { video } = draft;
  const change = (next: Partial<DraftVideo>) => onChange({ video: { ...video, ...next } });
  const step = Math.max(1, model.capabilities.video?.frame_step ?? 1);
  const isOn = video.context_frames !== null;
  const frames = video.context_frames ?? rule.frames.default;
  // In latent frames, as the network counts: the first stands for one frame.
  const latent = Math.floor((frames - 1) / step) + 1;
  return (
    <div className="flex flex-col gap-3">
      <SwitchRow
        label="Windows in time"
        hint={
          messagesOf(about, 'video.context_frames').notes?.[0] ??
          'For clips longer than the model was made for, and for less memory.'
        }
        isOn={isOn}
        onChange={(next) =>
          change({ context_frames: next ? rule.frames.default : null, context_overlap: null })
        }
      />
      {isOn && (
        <>
          <SliderField
            label="Window"
            value={video.context_frames}
            fallback={rule.frames.default}
            min={rule.frames.min}
            max={rule.frames.max}
            step={step}
            hint={`The model was made for ${rule.frames.default} frames.`}
            onValue={(next) => change({ context_frames: next ?? rule.frames.default })}
            {...messagesOf(about, 'video.context_frames')}
          />
          <SliderField
            label="Overlap"
            value={video.context_overlap}
            fallback={Math.floor((3 * latent + 4) / 8) * step}
            min={step}
            max={Math.max(1, Math.floor((3 * latent) / 4)) * step}
            step={step}
            hint="Frames that windows share. More is smoother and takes longer."
            onValue={(next) => change({ context_overlap: next })}
            {...messagesOf(about, 'video.context_overlap')}
          />
        </>
      )}
    </div>
  );
}

/** The share of the steps that the second network takes where a share is asked for. */
const LOW_SHARE = 0.6;
/** The noise level at which it takes over where a level is asked for. */
const BOUNDARY = 0.9;

type HandOverRule = 'model' | 'share' | 'noise';

/** When the network for motion hands over to the one for detail. */
function HandOver({ draft, onChange, ...about }: RequestFieldsProps) {
  const { video } = draft;
  const rule: HandOverRule =
    video.boundary !== null ? 'noise' : video.low_share !== null ? 'share' : 'model';
  const change = (next: Partial<DraftVideo>) => onChange({ video: { ...video, ...next } });
  return (
    <div className="flex flex-col gap-1.5">
      <span className="text-ink-2 text-sm font-medium">The low-noise network takes over</span>
      <Segmented<HandOverRule>
        label="The low-noise network takes over"
        className="self-start"
        value={rule}
        options={[
          { value: 'model', label: 'By the model' },
          { value: 'share', label: 'By share' },
          { value: 'noise', label: 'By noise' },
        ]}
        onValue={(next) =>
          change({
            low_share: next === 'share' ? LOW_SHARE : null,
            boundary: next === 'noise' ? BOUNDARY : null,
          })
        }
      />
      {rule === 'share' && (
        <SliderField
          label="Low-noise share"
          value={video.low_share}
          fallback={LOW_SHARE}
          min={0}
          max={1}
          step={0.05}
          hint={`${Math.round((video.low_share ?? LOW_SHARE) * 100)} % of the steps go to detail.`}
          onValue={(low_share) => change({ low_share: low_share ?? LOW_SHARE })}
          {...messagesOf(about, 'video.low_share')}
        />
      )}
      {rule === 'noise' && (
        <SliderField
          label="Boundary"
          value={video.boundary}
          fallback={BOUNDARY}
          min={0}
          max={1}
          step={0.005}
          hint="The share of noise below which it works on detail."
          onValue={(boundary) => change({ boundary: boundary ?? BOUNDARY })}
          {...messagesOf(about, 'video.boundary')}
        />
      )}
    </div>
  );
}

/** Whether frames go through the VAE in tiles although the whole would fit. */
export function TilingField({ draft, model, onChange }: RequestFieldsProps) {
  const { capabilities } = model;
  if (!capabilities.video?.vae_tiling || !makesClip(capabilities, draft)) return null;
  return (
    <SwitchRow
      label="Decode in tiles"
      hint="Slower, and less memory for large frames. Off: only where memory asks for it."
      isOn={draft.video.vae_tiling === true}
      onChange={(isOn) => onChange({ video: { ...draft.video, vae_tiling: isOn ? true : null } })}
    />
  );
}

/** How far the times are shifted towards noise. */
export function ShiftField({ draft, model, onChange, ...about }: RequestFieldsProps) {
  const { capabilities } = model;
  const shift = capabilities.video?.shift;
  if (!shift || !makesClip(capabilities, draft)) return null;
  return (
    <SliderField
      label="Shift"
      value={draft.video.shift}
      fallback={shift.default}
      min={shift.min}
      max={shift.max}
      step={0.1}
      hint="Higher: more of the steps go to the large forms and the motion."
      onValue={(value) => onChange({ video: { ...draft.video, shift: value } })}
      {...messagesOf(about, 'video.shift')}
    />
  );
}
