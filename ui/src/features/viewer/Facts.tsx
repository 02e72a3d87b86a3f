// Everything that a picture's recipe says, and whether it still holds here.
import { BadgeCheck, Check, Copy, X } from 'lucide-react';
import type { ReactNode } from 'react';
import { toast } from 'sonner';

import { useCommand } from '@/api/client';
import { pictureUrl, thumbnailUrl } from '@/api/media';
import { useRelatives } from '@/api/queries';
import type { Asset, ParentRole, PlannedPicture, PlannedSource } from '@/api/types';
import { TimingsBar } from '@/components/domain/TimingsBar';
import { formatName } from '@/components/player/kind';
import { formatTime, perSecond } from '@/components/player/time';
import { toastError } from '@/components/toast';
import { Button, IconButton } from '@/components/ui/Button';
import { copyText } from '@/lib/clipboard';
import { formatBytes, formatCount, formatDate, ratioLabel, samplingName } from '@/lib/format';
import { useOverlay } from '@/lib/overlay';

function Section({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section className="mt-6">
      <h3 className="text-ink-2 mb-2 text-sm font-medium">{title}</h3>
      {children}
    </section>
  );
}

function Fact({ label, copy, children }: { label: string; copy?: string; children: ReactNode }) {
  return (
    <div className="flex min-h-7 items-center gap-3 text-sm">
      <dt className="text-ink-3 w-28 shrink-0">{label}</dt>
      <dd className="tnum flex min-w-0 flex-1 items-center gap-2">
        <span className="min-w-0 flex-1 break-words">{children}</span>
        {copy !== undefined && (
          <IconButton
            size="sm"
            className="-my-1"
            label={`Copy the ${label.toLowerCase()}`}
            onClick={() =>
              void copyText(copy).then(() => toast.success(`${label} copied.`), toastError)
            }
          >
            <Copy size={14} aria-hidden="true" />
          </IconButton>
        )}
      </dd>
    </div>
  );
}

const ROLE_OF_PARENT: Record<ParentRole, string> = {
  image: 'Begins with',
  more_image: 'Picture',
  mask: 'Within the mask',
  end_image: 'Ends with',
  draft: 'Makes full',
};

const ROLE_OF_CHILD: Record<ParentRole, string> = {
  image: 'Begins with this',
  more_image: 'Has this beside others',
  mask: 'Within this mask',
  end_image: 'Ends with this',
  draft: 'This in full',
};

/** What it was made from, and what was made from it. */
function Lineage({ id }: { id: string }) {
  const { data } = useRelatives(id);
  const { openAsset } = useOverlay();
  const all = [
    ...(data?.parents ?? []).map(({ role, place = 0, asset }) => ({
      // The first picture is the one that it begins with.
      about: role === 'more_image' ? `Picture ${place + 2}` : ROLE_OF_PARENT[role],
      asset,
    })),
    ...(data?.children ?? []).map(({ role, asset }) => ({ about: ROLE_OF_CHILD[role], asset })),
  ];
  if (!all.length) return null;
  return (
    <Section title="Made from, and made of it">
      <ul className="grid grid-cols-3 gap-2">
        {all.map(({ about, asset }) => (
          <li key={`${about} ${asset.id}`}>
            <button
              type="button"
              aria-label={`${about}: ${asset.recipe.plan.prompt || asset.path}`}
              onClick={() => openAsset(asset.id)}
              className="group flex w-full flex-col gap-1 text-left"
            >
              <span className="picture-ground block aspect-square w-full overflow-hidden rounded-md">
                <img
                  src={thumbnailUrl(asset.id)}
                  alt=""
                  loading="lazy"
                  draggable={false}
                  className="size-full object-cover"
                />
              </span>
              <span className="text-ink-3 group-hover:text-ink text-xs">
                {about}
                {asset.recipe.plan.draft ? ', a draft' : ''}
              </span>
            </button>
          </li>
        ))}
      </ul>
    </Section>
  );
}

export function Facts({ asset }: { asset: Asset }) {
  const { plan, timings, device, dtype, kinora } = asset.recipe;
  const { openJob } = useOverlay();
  const ratio = ratioLabel(asset.width, asset.height);
  return (
    <>
      <div className="flex items-start gap-2">
        <h2 className="min-w-0 flex-1 text-base leading-relaxed font-medium break-words">
          {plan.prompt || <span className="text-ink-3">Without words</span>}
        </h2>
        <IconButton
          size="sm"
          label="Copy the prompt"
          onClick={() =>
            void copyText(plan.prompt).then(() => toast.success('Prompt copied.'), toastError)
          }
        >
          <Copy size={14} aria-hidden="true" />
        </IconButton>
      </div>
      {plan.negative_prompt && (
        <p className="text-ink-2 mt-2 text-sm">Without: {plan.negative_prompt}</p>
      )}
      <Section title="Settings">
        <dl>
          {plan.template && plan.template.expansion !== 'off' && (
            <Fact label="Drawn from" copy={plan.template.prompt}>
              {plan.template.prompt}
            </Fact>
          )}
          <Fact label="Model">{plan.model.name}</Fact>
          {Object.entries(plan.model.components ?? {}).map(([part, file], index) => (
            <Fact key={part} label={index === 0 ? 'Other parts' : ''}>
              {file} <span className="text-ink-3">· {part.replaceAll('_', ' ')}</span>
            </Fact>
          ))}
          <Fact label="Seed" copy={String(plan.seed)}>
            {plan.seed}
          </Fact>
          <Fact label="Size">
            {asset.width} × {asset.height}
            {ratio && <span className="text-ink-3"> · {ratio}</span>}
          </Fact>
          {asset.clip && (
            <>
              <Fact label="Length">
                {formatTime(asset.clip.duration_ms / 1000)}
                <span className="text-ink-3">
                  {' '}
                  · {formatCount(asset.clip.frames)} frames at{' '}
                  {Number(perSecond(asset.clip.rate).toFixed(3))} per second
                </span>
              </Fact>
              <Fact label="Sound">{asset.clip.has_sound ? 'Yes' : 'None'}</Fact>
            </>
          )}
          <Fact label="Steps">{plan.steps}</Fact>
          {plan.guidance !== null && <Fact label="Guidance">{plan.guidance}</Fact>}
          {plan.true_cfg !== null && <Fact label="Negative guidance">{plan.true_cfg}</Fact>}
          {plan.step_cache != null && <Fact label="Step reuse">{plan.step_cache}</Fact>}
          <Fact label="Sampler">
            {samplingName(plan.sampler)} · {samplingName(plan.schedule)}
          </Fact>
          <Fact label="Noise">{plan.rng === 'cpu' ? 'CPU generator' : 'CUDA generator'}</Fact>
          {plan.video?.cfg_2 != null && <Fact label="Guidance, low noise">{plan.video.cfg_2}</Fact>}
          {plan.video?.low_share != null && (
            <Fact label="Low-noise share">{plan.video.low_share}</Fact>
          )}
          {plan.video?.boundary != null && <Fact label="Boundary">{plan.video.boundary}</Fact>}
          {plan.video?.shift != null && <Fact label="Shift">{plan.video.shift}</Fact>}
          {(plan.video?.context_windows ?? 1) > 1 && (
            <Fact label="Windows">
              {plan.video?.context_windows} of {plan.video?.context_frames} frames,{' '}
              {plan.video?.context_overlap} shared
            </Fact>
          )}
          {plan.video?.vae_tiling && <Fact label="Decoded">In tiles</Fact>}
          {plan.draft && (
            <Fact label="Draft of">
              {plan.draft.size.width} × {plan.draft.size.height}
              {plan.draft.frames != null && `, ${formatCount(plan.draft.frames)} frames`},{' '}
              {plan.draft.steps} steps
            </Fact>
          )}
          {(plan.loras ?? []).map(({ name, weight, expert }, index) => (
            <Fact key={index} label={index === 0 ? 'LoRA files' : ''}>
              {name}{' '}
              <span className="text-ink-3">
                · weight {weight}
                {expert && ` · ${expert} noise`}
              </span>
            </Fact>
          ))}
        </dl>
      </Section>
      {plan.source && <Source source={plan.source} />}
      <Lineage id={asset.id} />
      {timings && (
        <Section title="Where the time went">
          <TimingsBar timings={timings} />
        </Section>
      )}
      <Section title="File">
        <dl>
          <Fact label="Path" copy={asset.path}>
            {asset.path}
          </Fact>
          <Fact label="Kind">
            {formatName(asset.format)}, {formatBytes(asset.bytes)}
          </Fact>
          <Fact label="Made">{formatDate(asset.created_at)}</Fact>
          <Fact label="On">
            {device}, {dtype}, Kinora {kinora}
          </Fact>
          <Fact label="SHA-256" copy={asset.sha256}>
            <span className="font-mono text-xs">{asset.sha256.slice(0, 16)}…</span>
          </Fact>
        </dl>
        {asset.job && (
          <Button size="sm" className="mt-2" onClick={() => openJob(asset.job!)}>
            Open its job
          </Button>
        )}
      </Section>
      <Section title="Recipe">
        <Recipe asset={asset} />
      </Section>
    </>
  );
}

/** What it was made from besides words. */
function Source({ source }: { source: PlannedSource }) {
  const { openAsset } = useOverlay();
  const { image, mask, end_image, strength, more_images = [] } = source;
  const pictures: [string, PlannedPicture | null | undefined][] = [
    ['Began with', image],
    ['Mask', mask],
    ['Ended with', end_image],
    ...more_images.map((more, index): [string, PlannedPicture] => [
      `Picture ${index + 2}`,
      more.image,
    ]),
  ];
  return (
    <Section title="Made from a picture">
      <ul className="flex flex-wrap gap-3">
        {pictures.map(
          ([name, picture]) =>
            picture && (
              <li key={name} className="flex w-24 flex-col gap-1">
                <img
                  src={pictureUrl(`input:${picture.sha256}`)}
                  alt={name}
                  loading="lazy"
                  className="bg-canvas h-18 w-full rounded-sm object-contain"
                />
                <span className="text-ink-3 tnum text-xs">
                  {name}, {picture.width} × {picture.height}
                </span>
                {picture.asset && (
                  <Button size="sm" onClick={() => openAsset(picture.asset!)}>
                    Open it
                  </Button>
                )}
              </li>
            ),
        )}
      </ul>
      {strength != null && (
        <dl className="mt-2">
          <Fact label="Strength">
            {[strength, ...more_images.map((more) => more.strength)].join(', ')}
          </Fact>
        </dl>
      )}
    </Section>
  );
}

function Recipe({ asset }: { asset: Asset }) {
  const verify = useCommand('recipes_verify');
  const result = verify.variables?.asset === asset.id ? verify.data : undefined;
  return (
    <>
      <ul className="text-ink-2 flex flex-col gap-1 text-xs">
        {asset.recipe.plan.model.weights.map((weight) => (
          <li key={weight.file} className="flex justify-between gap-3">
            <span className="truncate">{weight.component}</span>
            <span className="tnum shrink-0 font-mono">
              {weight.sha256?.slice(0, 10) ?? 'not hashed'} · {formatBytes(weight.bytes)}
            </span>
          </li>
        ))}
      </ul>
      <Button
        size="sm"
        className="mt-3"
        isBusy={verify.isPending}
        icon={<BadgeCheck size={15} aria-hidden="true" />}
        onClick={() => verify.mutate({ asset: asset.id }, { onError: toastError })}
      >
        Check it against this machine
      </Button>
      {result && (
        <div className="mt-3" aria-live="polite">
          <p
            className={
              result.is_same ? 'text-good text-sm font-medium' : 'text-warn text-sm font-medium'
            }
          >
            {result.is_same
              ? 'Everything is the same: running it again gives the same bytes.'
              : 'Running it again may give another picture:'}
          </p>
          <ul className="mt-2 flex flex-col gap-1.5 text-xs">
            {result.parts.map((part) => (
              <li key={part.part} className="flex gap-2">
                {part.is_same ? (
                  <Check size={14} className="text-good shrink-0" aria-label="same" />
                ) : (
                  <X size={14} className="text-bad shrink-0" aria-label="different" />
                )}
                <span className="min-w-0 break-words">
                  {part.part}
                  {!part.is_same && (
                    <span className="text-ink-2">
                      : {part.expected} then, {part.actual} now
                    </span>
                  )}
                </span>
              </li>
            ))}
          </ul>
        </div>
      )}
    </>
  );
}
