// Kinora's own marks: the logo and the signs of the places one can go to. Drawn on a 20-pixel grid
// with one stroke; everything else comes from Lucide.
import type { ReactNode, SVGProps } from 'react';

type IconProps = SVGProps<SVGSVGElement> & { size?: number };

const BLADE = 'M16 13.2C17.2 9.6 19.3 6 22.4 3.4A14 14 0 0 0 16 2Z';
const LIGHT = [1, 0.88, 0.75, 0.62, 0.5, 0.4, 0.31, 0.23];

/** The reel of a kinora: cards around a hub, one after the other passing the lamp. */
export function Mark({ size = 28, ...props }: IconProps) {
  return (
    <svg viewBox="0 0 32 32" width={size} height={size} aria-hidden="true" {...props}>
      <g fill="var(--mark)">
        {LIGHT.map((opacity, index) => (
          <path
            key={opacity}
            d={BLADE}
            opacity={opacity}
            transform={`rotate(${index * 45} 16 16)`}
          />
        ))}
        <circle cx="16" cy="16" r="2.1" />
      </g>
    </svg>
  );
}

function icon(name: string, children: ReactNode) {
  const Icon = ({ size = 20, ...props }: IconProps) => (
    <svg
      viewBox="0 0 20 20"
      width={size}
      height={size}
      fill="none"
      stroke="currentColor"
      strokeWidth="1.5"
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
      {...props}
    >
      {children}
    </svg>
  );
  Icon.displayName = name;
  return Icon;
}

/** A frame with light coming in. */
export const CreateIcon = icon(
  'CreateIcon',
  <>
    <path d="M11 3.5H5A1.5 1.5 0 0 0 3.5 5v10A1.5 1.5 0 0 0 5 16.5h10a1.5 1.5 0 0 0 1.5-1.5V9" />
    <path d="M15.5 1.5c.3 2 1 2.7 3 3-2 .3-2.7 1-3 3-.3-2-1-2.7-3-3 2-.3 2.7-1 3-3Z" />
    <path d="m3.8 14.2 3.4-3.6 3 3 1.8-1.7 4.2 3.6" />
  </>,
);

/** A frame of film that is played. */
export const VideoIcon = icon(
  'VideoIcon',
  <>
    <rect x="2.5" y="4" width="15" height="12" rx="1.5" />
    <path d="M5.5 4v12M14.5 4v12M2.5 8h3M2.5 12h3M14.5 8h3M14.5 12h3" />
    <path d="m8.6 7.9 3.3 2.1-3.3 2.1Z" />
  </>,
);

/** Lines that become frames. */
export const BulkIcon = icon(
  'BulkIcon',
  <>
    <path d="M2.5 5h5M2.5 10h5M2.5 15h5" />
    <rect x="10.5" y="3" width="7" height="4" rx="1" />
    <rect x="10.5" y="8" width="7" height="4" rx="1" />
    <rect x="10.5" y="13" width="7" height="4" rx="1" />
  </>,
);

/** A stack, the first of it starting. */
export const QueueIcon = icon(
  'QueueIcon',
  <>
    <path d="M3 11.5h14M3 15.5h14" />
    <path d="M3 4.2v4a.7.7 0 0 0 1.05.6l3.5-2a.7.7 0 0 0 0-1.2l-3.5-2A.7.7 0 0 0 3 4.2Z" />
    <path d="M11.5 6.2H17" />
  </>,
);

/** A hanging of pictures of different shapes. */
export const GalleryIcon = icon(
  'GalleryIcon',
  <>
    <rect x="2.5" y="3" width="8" height="6.5" rx="1.2" />
    <rect x="13" y="3" width="4.5" height="9" rx="1.2" />
    <rect x="2.5" y="12" width="4.5" height="5" rx="1.2" />
    <path d="M10.7 12h-.2a1 1 0 0 0-1 1v3a1 1 0 0 0 1 1h6a1 1 0 0 0 1-1v-1.5" />
  </>,
);

/** A strip of film. */
export const SessionsIcon = icon(
  'SessionsIcon',
  <>
    <rect x="2.5" y="4" width="15" height="12" rx="1.6" />
    <path d="M2.5 7.4h15M2.5 12.6h15M6.2 4v3.4M10 4v3.4M13.8 4v3.4M6.2 12.6V16M10 12.6V16M13.8 12.6V16" />
  </>,
);

/** Layers of a network. */
export const ModelsIcon = icon(
  'ModelsIcon',
  <>
    <path d="m10 2.5 7.2 3.8L10 10.1 2.8 6.3 10 2.5Z" />
    <path d="m2.8 10 7.2 3.8 7.2-3.8" />
    <path d="m2.8 13.7 7.2 3.8 7.2-3.8" />
  </>,
);

/** Dials. */
export const SettingsIcon = icon(
  'SettingsIcon',
  <>
    <path d="M2.5 5.5h7M14.5 5.5h3M2.5 14.5h3M10.5 14.5h7M2.5 10h2.2M9.7 10h7.8" />
    <circle cx="12" cy="5.5" r="2.1" />
    <circle cx="7.2" cy="10" r="2.1" />
    <circle cx="8" cy="14.5" r="2.1" />
  </>,
);
