// What the rest of the UI may ask of the host it runs in: the desktop window or a browser.
// Nothing here says which one it is; `has` tells what it can do.
import type { Event } from '@/api/types';

export type ConnectionStatus = 'connecting' | 'open' | 'lost' | 'unauthorized';

export interface HostListener {
  onEvents(events: Event[]): void;
  onStatus(status: ConnectionStatus): void;
}

export interface FileDrop {
  /** Whether files hang over the window at the moment. */
  onHover(isOver: boolean): void;
  /** `at`: where in the window, in CSS pixels. */
  onDrop(files: File[], at: { x: number; y: number }): void;
}

/** A picture that was handed in, to start requests from. */
export interface KeptInput {
  /** What requests name it by: `input:` with its digest. */
  reference: string;
  /** Pixels. */
  width: number;
  /** Pixels. */
  height: number;
  /** Size of the file. */
  bytes: number;
}

export interface Host {
  readonly has: {
    /** Files can be shown in the system's file manager. */
    reveal: boolean;
  };
  /** Runs one command of the table. Rejects with `ApiError`. */
  call(name: string, input: unknown): Promise<unknown>;
  /** Reads the settings out of a picture's bytes. */
  readMetadata(file: File): Promise<unknown>;
  /** Keeps a picture that requests can start from. Rejects with `ApiError`. */
  keepInput(file: Blob): Promise<KeptInput>;
  /** The address of something under `/media`, loadable by an `<img>`. */
  mediaUrl(path: string): string;
  /** The address of a page of the server, such as `/docs`. */
  pageUrl(path: string): string;
  /** Starts the stream of events and answers a function that ends it. */
  connect(listener: HostListener): () => void;
  /** Follows files that are dragged over the window; answers a function that stops. */
  watchFileDrops(drop: FileDrop): () => void;
  /** Follows the window's own menu, which names actions of the app; answers a function that stops. */
  watchMenu(onAction: (id: string) => void): () => void;
  /** Hands a file to the user: a download, or a save dialogue. */
  saveFile(name: string, content: Blob): Promise<void>;
  /** Hands a stored asset's file to the user. */
  saveAsset(id: string, name: string): Promise<void>;
  /** Shows a stored asset's file in the system's file manager. */
  revealAsset(id: string): Promise<void>;
  openExternal(url: string): Promise<void>;
  /** Says who we are after the server asked (a token from its pairing link). */
  pair(token: string): Promise<void>;
}
