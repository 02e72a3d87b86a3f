// What a request starts from besides words: a picture, a mask over it, and how much of it stays.
import { Brush, X } from 'lucide-react';
import { useState } from 'react';

import type { Mode } from '@/api/types';
import { Button, IconButton } from '@/components/ui/Button';
import { SliderField } from '@/components/ui/Slider';
import { startFrom, withoutFirst } from '@/lib/draft';
import { hasStrength, modeOf, needsImage, takesImage } from './ability';
import { MaskPainter } from './MaskPainter';
import { MoreImages } from './MoreImages';
import { PictureField, type PictureSize } from './PictureField';
import { messagesOf, type RequestFieldsProps } from './RequestFields';

const HINTS: Partial<Record<Mode, string>> = {
  edit: 'The prompt says what shall change in it.',
  control: 'The result follows its edges or depths.',
  variation: 'The result is like it. Words are optional.',
  image_to_video: 'The clip begins with it.',
  inpaint: 'Only what the mask covers is painted anew.',
};

interface SourceFieldsProps extends RequestFieldsProps {
  /** The result on the stage, as a reference. */
  staged: string | null;
}

const STRENGTH_HINTS: Partial<Record<Mode, string>> = {
  variation: 'How much the picture counts; beside others, which it is more like.',
};

export function SourceFields(props: SourceFieldsProps) {
  const { draft, model, staged, onChange, ...about } = props;
  const [painted, setPainted] = useState<(PictureSize & { image: string }) | null>(null);
  const { capabilities } = model;
  const isTaken = takesImage(capabilities);
  // A picture that this model has no use for stays in sight, so that one can take it away.
  if (!isTaken && draft.image === null) return null;
  const { strength } = capabilities;
  const canMask = capabilities.modes.includes('inpaint');
  const mode = modeOf(capabilities, draft);
  const said = messagesOf(about, 'image', 'mask');
  const isNeeded = needsImage(capabilities);

  return (
    <div className="flex flex-col gap-3">
      <PictureField
        label="Start from a picture"
        member="image"
        value={draft.image}
        staged={staged}
        hint={
          draft.image === null
            ? isNeeded
              ? `${model.name} needs one.`
              : undefined
            : mode && HINTS[mode]
        }
        onValue={(image) => onChange(image === null ? withoutFirst(draft) : startFrom(image))}
        problems={said.problems}
        notes={
          isTaken
            ? said.notes
            : [`${model.name} starts from words alone: this picture waits for another model.`]
        }
        actions={(size) =>
          canMask && (
            <>
              <Button
                size="sm"
                icon={<Brush size={14} aria-hidden="true" />}
                onClick={() => setPainted({ ...size, image: draft.image! })}
              >
                {draft.mask === null ? 'Paint a mask' : 'Change the mask'}
              </Button>
              {draft.mask !== null && (
                <IconButton
                  size="sm"
                  label="Remove the mask"
                  onClick={() => onChange({ mask: null })}
                >
                  <X size={15} aria-hidden="true" />
                </IconButton>
              )}
            </>
          )
        }
      />
      {strength && hasStrength(capabilities, draft) && (
        <SliderField
          label="Strength"
          value={draft.strength}
          fallback={strength.default}
          min={strength.min}
          max={strength.max}
          step={0.01}
          hint={
            (mode && STRENGTH_HINTS[mode]) ??
            'How much is painted anew: at 1 little is left of the picture.'
          }
          onValue={(value) => onChange({ strength: value })}
          {...messagesOf(about, 'strength')}
        />
      )}
      <MoreImages {...props} />
      {painted && painted.image === draft.image && (
        <MaskPainter
          image={painted.image}
          size={painted}
          mask={draft.mask}
          onClose={() => setPainted(null)}
          onMask={(mask) => {
            setPainted(null);
            onChange({ mask });
          }}
        />
      )}
    </div>
  );
}
