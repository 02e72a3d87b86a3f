// The vocabulary of the wire, generated from the command table.
export type * from './generated/types';
