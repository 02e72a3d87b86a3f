// The rest of the scripted studio: the machine, models, sessions, settings, disk space, dropped files.
import type { ComponentFile, LoraInfo, ModelComponents, Session, Settings } from '@/api/types';
import { MODELS, PROMPTS } from './data';
import { MockPictures } from './pictures';
import { type Fields, refuse } from './state';

export class MockRooms extends MockPictures {
  /** Pictures that were handed in. */
  readonly kept: Blob[] = [];
  loras: LoraInfo[] = [
    { name: 'ink-wash', base: 'flux', bytes: 38e6, ranks: [16], tensors: 304, fault: null },
    { name: 'styles/neon', base: 'flux', bytes: 76e6, ranks: [32], tensors: 304, fault: null },
    { name: 'torn', base: null, bytes: 12, ranks: [], tensors: 0, fault: 'its header is cut' },
  ];

  system_info() {
    const t = Date.now() / 1000;
    const isBusy = [...this.jobs.values()].some((job) => job.state === 'running');
    return {
      version: '0.1.0',
      host: 'atelier',
      os: 'Debian GNU/Linux 13',
      arch: 'x86_64',
      uptime_seconds: (Date.now() - this.startedAt) / 1000 + 4210,
      cpu: { name: 'AMD EPYC 9554', cores: 16, used: (isBusy ? 0.72 : 0.08) + 0.05 * Math.sin(t) },
      memory: {
        total: 128e9,
        available: 71e9 + 2e9 * Math.sin(t / 5),
        process: 240e6,
      },
      gpus: [
        {
          name: 'NVIDIA GB10',
          driver: '580.95',
          used: (isBusy ? 0.93 : 0.01) + 0.03 * Math.sin(t),
          memory_total: null,
          memory_used: null,
          temperature: isBusy ? 61 : 42,
          power: isBusy ? 87 : 12,
        },
      ],
      engine: {
        state: isBusy ? 'running' : 'idle',
        device: { kind: 'cuda', name: 'NVIDIA GB10', is_unified: true, memory: 128e9 },
        version: '0.1.0',
        pid: 4242,
        models: ['Kinora Starter'],
        model_bytes: 62e6,
        resident: 410e6,
        starts: 1,
        last_failure: null,
      },
      folders: [
        { name: 'data', path: '/home/ada/.local/share/kinora', free: 412e9, total: 1000e9 },
        { name: 'models', path: '/home/ada/models', free: 412e9, total: 1000e9 },
        { name: 'outputs', path: '/home/ada/Pictures/Kinora', free: 412e9, total: 1000e9 },
      ],
    };
  }

  system_logs(input: Fields) {
    const lines = [
      ['info', 'kinora_http::serve', 'listening on http://127.0.0.1:7860'],
      ['info', 'kinora_queue', 'took 2 running jobs back into the queue'],
      ['info', 'kinora_app::engine', 'engine 4242 is ready on NVIDIA GB10'],
      ['debug', 'kinora_engine::run', 'group 17: 4 jobs, 256×256, 8 steps'],
      ['warn', 'kinora_catalog', 'flux-dev: 3 of 12 files are missing'],
      ['error', 'kinora_queue', 'job failed: the disk is full'],
    ] as const;
    const wanted = (input.search as string | undefined)?.toLowerCase();
    const rank = ['trace', 'debug', 'info', 'warn', 'error'];
    const least = rank.indexOf((input.level as string) ?? 'trace');
    return {
      lines: Array.from({ length: 60 }, (_, i) => {
        const [level, target, message] = lines[i % lines.length]!;
        return { at: Date.now() - (60 - i) * 31_000, level, target, message };
      }).filter(
        (line) =>
          rank.indexOf(line.level) >= least &&
          (!wanted || `${line.target} ${line.message}`.toLowerCase().includes(wanted)),
      ),
    };
  }

  keepInput(file: Blob) {
    const name = file instanceof File ? file.name : 'mask.png';
    if (!/\.(png|jpe?g|webp)$/i.test(name))
      refuse('unsupported_file', `${name} is not a picture that Kinora reads.`, 'Use a PNG.');
    this.kept.push(file);
    return {
      reference: `input:${this.kept.length.toString(16).padStart(64, '0')}`,
      width: 256,
      height: 192,
      bytes: file.size,
    };
  }

  loras_list() {
    return { folder: '/home/ada/models/loras', loras: this.loras };
  }
  loras_check({ name }: Fields) {
    const lora = this.loras.find((candidate) => candidate.name === name);
    if (!lora) refuse('not_found', `there is no LoRA file ${String(name)}`, 'See the list.');
    return {
      base: lora.base,
      kinds: ['LoRA'],
      ranks: lora.ranks,
      tensors: lora.tensors,
      applied: lora.tensors - 2,
      ignored: 0,
      unmatched: [{ key: 'lora_te_extra', reason: 'the model has no such part' }],
      unmatched_count: 2,
    };
  }

  /** Files for parts, by the part's name; models that are not here take none. */
  parts: Record<string, ComponentFile[]> = {
    vae: [
      { name: 'vae/ae-tuned.safetensors', bytes: 335e6 },
      { name: 'vae/old/taef1.safetensors', bytes: 9.8e6 },
    ],
    text_encoder: [],
    text_encoder_2: [{ name: 'text_encoders/t5xxl_fp8_e4m3fn.safetensors', bytes: 4.9e9 }],
  };
  protected override isPart(part: string, file: string) {
    return this.parts[part]?.some(({ name }) => name === file) ?? false;
  }
  models_components({ id }: Fields): ModelComponents {
    const model = this.models_get({ id });
    if (model.family !== 'flux') return { components: [] };
    const titles = {
      vae: 'VAE',
      text_encoder: 'Text encoder',
      text_encoder_2: 'Second text encoder',
    };
    return {
      components: Object.entries(titles).map(([component, title]) => ({
        component,
        title,
        file: `${component}/model.safetensors`,
        choices: this.parts[component] ?? [],
      })),
    };
  }

  models_list() {
    return { models: MODELS, default: 'starter' };
  }
  models_get({ id }: Fields) {
    return MODELS.find((model) => model.id === id) ?? refuse('not_found', 'no such model', '');
  }

  sessions_list() {
    const all = [...this.sessions.values()].sort((a, b) => b.updated_at - a.updated_at);
    return { sessions: all, total: all.length };
  }
  sessions_create({ kind = 'image', title = '' }: Fields) {
    return this.session(null, kind as Session['kind'], String(title));
  }
  sessions_rename({ id, title }: Fields) {
    const session =
      this.sessions.get(String(id)) ?? refuse('not_found', 'there is no such session', '');
    session.title = String(title);
    this.emit({ type: 'session_changed', session });
    return session;
  }
  sessions_remove({ id }: Fields) {
    this.sessions.delete(String(id));
    this.emit({ type: 'session_removed', session: String(id) });
    return { cancelled_jobs: 0, trashed_assets: 0 };
  }
  settings_get() {
    return this.settings;
  }
  settings_update(change: Partial<Settings>) {
    Object.assign(this.settings, change);
    this.emit({ type: 'settings_changed' });
    return this.settings;
  }
  config_show() {
    return {
      file: '/home/ada/.config/kinora/config.toml',
      values: [
        {
          key: 'data_dir',
          variable: 'KINORA_DATA_DIR',
          value: '/home/ada/.local/share/kinora',
          source: 'default',
          detail: null,
          description: 'Database, previews, caches',
        },
        {
          key: 'models_dir',
          variable: 'KINORA_MODELS_DIR',
          value: '/home/ada/models',
          source: 'environment',
          detail: null,
          description: 'Model files',
        },
        {
          key: 'outputs_dir',
          variable: 'KINORA_OUTPUTS_DIR',
          value: '/home/ada/Pictures/Kinora',
          source: 'file',
          detail: '/home/ada/.config/kinora/config.toml',
          description: 'Finished pictures',
        },
        {
          key: 'host',
          variable: 'KINORA_HOST',
          value: '127.0.0.1',
          source: 'default',
          detail: null,
          description: 'Address that the server binds to',
        },
        {
          key: 'port',
          variable: 'KINORA_PORT',
          value: '7860',
          source: 'flag',
          detail: null,
          description: 'Port of the server',
        },
        {
          key: 'token',
          variable: 'KINORA_TOKEN',
          value: null,
          source: 'default',
          detail: null,
          description: 'Secret of paired browsers',
        },
      ],
    };
  }
  cleanup_status() {
    return {
      pictures: { count: this.assets.length, bytes: this.assets.length * 1.3e5 },
      trash: { count: 12, bytes: 1.6e6 },
      work: { count: 3, bytes: 48e6 },
      caches: { count: 480, bytes: 22e6 },
      database: { count: 1, bytes: 6.4e6 },
      unknown_files: { count: 2, bytes: 3.1e6 },
      missing_files: 0,
      disk_free: 412e9,
    };
  }
  cleanup_run({ dry_run }: Fields) {
    return {
      dry_run: Boolean(dry_run),
      work: { count: 3, bytes: 48e6 },
      trash: { count: 12, bytes: 1.6e6 },
      caches: { count: 480, bytes: 22e6 },
    };
  }

  wildcards_list() {
    const wildcards = [...this.wildcards].map(([name, text]) => this.wildcard(name, text));
    return { wildcards, folder: '/home/ada/.local/share/kinora/wildcards' };
  }
  wildcards_get({ name }: Fields) {
    const text = this.wildcards.get(String(name));
    if (text === undefined) refuse('not_found', `there is no wildcard "${String(name)}"`, '');
    return { name: String(name), text };
  }
  wildcards_save({ name, text, only_new }: Fields) {
    if (only_new && this.wildcards.has(String(name)))
      refuse('conflict', `there is a wildcard "${String(name)}" already`, '', 'name');
    this.wildcards.set(String(name), String(text));
    return this.wildcard(String(name), String(text));
  }
  wildcards_remove(input: Fields) {
    const wildcard = this.wildcards_get(input);
    this.wildcards.delete(wildcard.name);
    return wildcard;
  }
  private wildcard(name: string, text: string) {
    const options = text.split('\n').filter((line) => line.trim() && !line.startsWith('#')).length;
    return { name, options, bytes: text.length, modified_at: Date.now(), fault: null };
  }

  readMetadata(name: string) {
    if (!/\.(png|jpe?g|webp)$/i.test(name))
      refuse(
        'unsupported_file',
        `${name} is not a picture that Kinora reads.`,
        'Drop a PNG, JPEG or WebP file.',
      );
    if (/plain/.test(name))
      return { source: 'none', request: null, recipe: null, raw: {}, notes: [] };
    return {
      source: 'a1111',
      request: { prompt: PROMPTS[4], seed: 1234567, steps: 8, width: 320, height: 192 },
      recipe: null,
      raw: { parameters: 'a calm sea at night' },
      notes: [
        {
          field: 'sampler',
          message: 'The sampler “DPM++ 2M” is not known here; the model’s own is used.',
        },
      ],
    };
  }
}
