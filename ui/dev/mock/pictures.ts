// Pictures of the scripted studio: found, trashed, restored. Those of a large gallery are invented
// when they are asked for.
import type { Asset, Event, Plan, RequestInput } from '@/api/types';
import { PROMPTS } from './data';
import { asClip, makeAsset } from './invented';
import { MockLists } from './lists';
import { type Fields, refuse } from './state';

export class MockPictures extends MockLists {
  /** Invented pictures by id: searching a hundred thousand for each tile would be what one measures. */
  private readonly seen = new Map<string, Asset>();

  protected assetAt(index: number): Asset {
    const known = this.assets[index]!;
    if (typeof known !== 'number') return known;
    const request: RequestInput = {
      prompt: PROMPTS[known % PROMPTS.length],
      seed: 7000 + known * 31,
      ...[
        {},
        { width: 320, height: 192 },
        {},
        { width: 192, height: 256 },
        { width: 256, height: 192 },
      ][known % 5],
    };
    const id = `01800000-0000-7000-8000-${known.toString(16).padStart(12, '0')}`;
    const still = makeAsset(this.plan(request, 0), id, Date.now() - 3_600_000 - known * 410_000);
    const asset = known % 5 === 1 ? asClip(still) : still;
    this.assets[index] = asset;
    this.seen.set(id, asset);
    return asset;
  }
  findAsset(id: string): Asset | undefined {
    const known = this.seen.get(id);
    if (known) return known;
    return this.assets.find(
      (asset): asset is Asset => typeof asset !== 'number' && asset.id === id,
    );
  }

  assets_list(query: Fields) {
    const offset = Number(query.offset ?? 0);
    const limit = Number(query.limit ?? 100);
    const isPlain = !query.search && !query.kind && !query.model && !query.session && !query.batch;
    const isClean = this.assets.every((asset) => typeof asset === 'number' || !asset.trashed_at);
    if (isPlain && !query.trashed && isClean && query.sort !== 'oldest') {
      const end = Math.min(this.assets.length, offset + limit);
      const assets: Asset[] = [];
      for (let i = offset; i < end; i += 1) assets.push(this.assetAt(i));
      return { assets, total: this.assets.length };
    }
    const words = String(query.search ?? '').toLowerCase();
    const all = this.assets
      .map((_, index) => this.assetAt(index))
      .filter(
        (asset) =>
          Boolean(query.trashed) === (asset.trashed_at !== null) &&
          (!query.kind || asset.kind === query.kind) &&
          (!query.model || asset.recipe.plan.model.id === query.model) &&
          (!query.session || asset.session === query.session) &&
          (!query.batch || asset.batch === query.batch) &&
          (!words ||
            `${asset.recipe.plan.prompt} ${asset.recipe.plan.seed} ${asset.recipe.plan.model.name}`
              .toLowerCase()
              .includes(words)),
      );
    if (query.sort === 'oldest') all.reverse();
    return { assets: all.slice(offset, offset + limit), total: all.length };
  }
  assets_get({ id }: Fields) {
    return (
      this.findAsset(String(id)) ??
      refuse('not_found', 'this picture is gone', 'It was deleted for good.')
    );
  }
  protected override assetOf(id: string) {
    return this.findAsset(id);
  }
  assets_relatives() {
    return { parents: [], children: [] };
  }
  protected changeAssets(ids: unknown, change: (asset: Asset) => void) {
    const changed = (ids as string[]).flatMap((id) => this.findAsset(id) ?? []);
    changed.forEach(change);
    this.emit(...changed.map((asset): Event => ({ type: 'asset_changed', asset })));
    return { assets: changed.length };
  }
  assets_trash({ ids }: Fields) {
    return this.changeAssets(ids, (asset) => (asset.trashed_at = Date.now()));
  }
  assets_restore({ ids }: Fields) {
    return this.changeAssets(ids, (asset) => (asset.trashed_at = null));
  }
  assets_purge({ ids }: Fields) {
    const wanted = new Set(ids as string[]);
    this.assets = this.assets.filter((asset) => typeof asset === 'number' || !wanted.has(asset.id));
    for (const id of wanted) this.seen.delete(id);
    this.emit(...[...wanted].map((asset): Event => ({ type: 'asset_removed', asset })));
    return { assets: wanted.size };
  }
  recipes_verify() {
    const part = (name: string, value: string, actual = value) => ({
      part: name,
      is_same: value === actual,
      expected: value,
      actual,
    });
    return {
      is_same: false,
      parts: [
        part('build', '0.1.0'),
        part('weights/transformer', 'ab12…'),
        part('weights/vae', 'cd34…'),
        part('device', 'NVIDIA H100', 'NVIDIA GB10'),
      ],
    };
  }
  recipes_run({ recipe }: Fields) {
    const { plan } = recipe as { plan: Plan };
    return this.jobs_submit({ prompt: plan.prompt, seed: plan.seed, model: plan.model.id });
  }
}
