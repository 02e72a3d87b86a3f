// A refused command, with everything that was wrong.
import type { Code, Problem, Problems } from '@/api/types';

export class ApiError extends Error {
  readonly code: Code | 'unreachable';
  readonly hint: string;
  readonly problems: Problem[];

  constructor(problems: Problems | (Omit<Problem, 'code'> & { code: 'unreachable' })) {
    super(problems.message);
    this.name = 'ApiError';
    this.code = problems.code;
    this.hint = problems.hint;
    const list = 'problems' in problems ? problems.problems : undefined;
    this.problems = list?.length
      ? list
      : problems.code === 'unreachable'
        ? []
        : [problems as Problem];
  }
}

/** Whether a value has the shape of the server's error body. */
export function isProblems(value: unknown): value is Problems {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof (value as Problems).code === 'string' &&
    typeof (value as Problems).message === 'string'
  );
}

export function unreachable(detail?: string): ApiError {
  return new ApiError({
    code: 'unreachable',
    message: `Kinora does not answer${detail ? ` (${detail})` : ''}.`,
    hint: 'Check that it is still running; this page connects again by itself.',
  });
}

/** Anything that was thrown, as an ApiError. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (isProblems(error)) return new ApiError(error);
  return new ApiError({
    code: 'internal',
    message: error instanceof Error ? error.message : String(error),
    hint: 'Try again. If it happens again, look into the logs under Settings.',
  });
}
