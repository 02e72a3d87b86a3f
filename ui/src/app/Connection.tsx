// What is said while the server cannot be reached, or does not know this browser.
import { KeyRound, WifiOff } from 'lucide-react';
import { useEffect, useState } from 'react';

import { connectionStore } from '@/api/connection';
import { host } from '@/api/host';
import { Mark } from '@/components/icons';
import { Button } from '@/components/ui/Button';
import { Field, TextInput } from '@/components/ui/Field';
import { useStore } from '@/lib/store';

/** A cut of a moment is nobody's business. */
const PATIENCE_MS = 1500;

export function ConnectionBanner() {
  const status = useStore(connectionStore);
  const [isLate, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(status === 'lost'), status === 'lost' ? PATIENCE_MS : 0);
    return () => clearTimeout(timer);
  }, [status]);
  return (
    <div aria-live="polite">
      {isLate && (
        <div className="bg-warn-wash text-warn flex items-center justify-center gap-2 px-4 py-1.5 text-sm font-medium">
          <WifiOff size={15} aria-hidden="true" />
          Kinora does not answer. Nothing is lost: the queue goes on, and this page connects again
          by itself.
        </div>
      )}
    </div>
  );
}

export function Pairing() {
  const [token, setToken] = useState('');
  return (
    <main className="grid h-full place-items-center p-6">
      <form
        className="bg-panel border-line flex w-full max-w-sm flex-col gap-4 rounded-xl border p-6"
        onSubmit={(event) => {
          event.preventDefault();
          if (token.trim()) void host.pair(token.trim());
        }}
      >
        <Mark size={36} />
        <div>
          <h1 className="text-lg font-semibold">Pair this browser</h1>
          <p className="text-ink-2 mt-1 text-sm">
            This Kinora is protected. Open the pairing link that it printed when it started, or
            enter its token here.
          </p>
        </div>
        <Field label="Token">
          {(attributes) => (
            <TextInput
              {...attributes}
              type="password"
              autoComplete="current-password"
              value={token}
              onChange={(event) => setToken(event.target.value)}
            />
          )}
        </Field>
        <Button type="submit" variant="primary" icon={<KeyRound size={16} aria-hidden="true" />}>
          Pair
        </Button>
      </form>
    </main>
  );
}
