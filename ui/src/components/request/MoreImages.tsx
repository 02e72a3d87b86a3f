// Pictures besides the first, for models that take several, each with how much it counts.
import { SliderField } from '@/components/ui/Slider';
import type { DraftImage } from '@/lib/draft';
import { hasStrength } from './ability';
import { PictureField } from './PictureField';
import { messagesOf, type RequestFieldsProps } from './RequestFields';

interface MoreImagesProps extends RequestFieldsProps {
  /** The result on the stage, as a reference. */
  staged: string | null;
}

export function MoreImages({ draft, model, staged, onChange, ...about }: MoreImagesProps) {
  const { strength, more_images: most = 0 } = model.capabilities;
  const { more_images: images } = draft;
  if (!most || draft.image === null) return null;
  const replace = (index: number, next: DraftImage | null) =>
    onChange({
      more_images: images.flatMap((image, at) => (at !== index ? [image] : next ? [next] : [])),
    });

  return (
    <>
      {images.slice(0, most).map((image, index) => {
        const member = `more_images[${index}]`;
        return (
          // The same picture may be given twice: only its place tells the two apart.
          <div key={index} className="flex flex-col gap-3">
            <PictureField
              label={`Picture ${index + 2}`}
              member={member}
              value={image.image}
              staged={staged}
              onValue={(value) =>
                replace(index, value === null ? null : { ...image, image: value })
              }
              {...messagesOf(about, member, `${member}.image`)}
            />
            {strength && hasStrength(model.capabilities, draft) && (
              <SliderField
                label={`Strength of picture ${index + 2}`}
                value={image.strength}
                fallback={draft.strength ?? strength.default}
                min={strength.min}
                max={strength.max}
                step={0.01}
                onValue={(value) => replace(index, { ...image, strength: value })}
                {...messagesOf(about, `${member}.strength`)}
              />
            )}
          </div>
        );
      })}
      {images.length < most && (
        <PictureField
          // An empty field for each place: what the last one was busy with is not the next one's.
          key={images.length}
          label="One more picture"
          member="more_images"
          value={null}
          staged={staged}
          hint={`Up to ${most + 1} together.`}
          onValue={(image) =>
            image !== null && onChange({ more_images: [...images, { image, strength: null }] })
          }
          {...messagesOf(about, 'more_images')}
        />
      )}
    </>
  );
}
