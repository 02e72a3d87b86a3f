//! Which asset was made from which. A parent may be deleted while its children stay: the entry then
//! names nothing, and is left out of answers.

use kinora_core::{AssetId, ParentRole, Plan, Relative};
use rusqlite::{Connection, Transaction, params};

use crate::{
    Result, assets,
    codec::{self, Key},
};

/// The table, filled from the recipes of assets that are there already.
pub(crate) const V3: &str = "
CREATE TABLE lineage (
    child BLOB NOT NULL REFERENCES assets (id) ON DELETE CASCADE,
    parent BLOB NOT NULL,
    role TEXT NOT NULL,
    PRIMARY KEY (child, role)
) STRICT, WITHOUT ROWID;
CREATE INDEX lineage_parent ON lineage (parent);
INSERT INTO lineage (child, parent, role)
SELECT assets.id, unhex(json_extract(assets.recipe, roles.place), '-'), roles.role
FROM assets, (
    SELECT 'image' AS role, '$.plan.source.image.asset' AS place
    UNION ALL SELECT 'mask', '$.plan.source.mask.asset'
    UNION ALL SELECT 'end_image', '$.plan.source.end_image.asset'
) AS roles
WHERE unhex(json_extract(assets.recipe, roles.place), '-') IS NOT NULL;
";

/// Several parents in one role: those of pictures besides the first, which earlier formats left out.
pub(crate) const V4: &str = "
CREATE TABLE lineage_in_places (
    child BLOB NOT NULL REFERENCES assets (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    place INTEGER NOT NULL,
    parent BLOB NOT NULL,
    PRIMARY KEY (child, role, place)
) STRICT, WITHOUT ROWID;
INSERT INTO lineage_in_places (child, role, place, parent)
SELECT child, role, 0, parent FROM lineage;
INSERT INTO lineage_in_places (child, role, place, parent)
SELECT assets.id, 'more_image', more.key, unhex(json_extract(more.value, '$.image.asset'), '-')
FROM assets, json_each(assets.recipe, '$.plan.source.more_images') AS more
WHERE unhex(json_extract(more.value, '$.image.asset'), '-') IS NOT NULL;
DROP TABLE lineage;
ALTER TABLE lineage_in_places RENAME TO lineage;
CREATE INDEX lineage_parent ON lineage (parent);
";

/// Children that an answer lists.
const LISTED: u32 = 200;

/// Notes what an asset is made from, as its plan says.
pub(crate) fn add(tx: &Transaction<'_>, child: AssetId, plan: &Plan) -> Result<()> {
    let mut statement = tx.prepare_cached(
        "INSERT OR REPLACE INTO lineage (child, role, place, parent) VALUES (?1, ?2, ?3, ?4)",
    )?;
    let source = plan.source.as_ref();
    let image = source.and_then(|source| source.image.asset);
    let mask = source.and_then(|source| source.mask.as_ref()?.asset);
    let end = source.and_then(|source| source.end_image.as_ref()?.asset);
    let more = source.map_or(&[][..], |source| &source.more_images);
    let more = (0_u32..).zip(more.iter().map(|more| more.image.asset));
    let parents = [
        (ParentRole::Image, 0, image),
        (ParentRole::Mask, 0, mask),
        (ParentRole::EndImage, 0, end),
        (ParentRole::Draft, 0, plan.parent),
    ];
    let more = more.map(|(place, parent)| (ParentRole::MoreImage, place, parent));
    for (role, place, parent) in parents.into_iter().chain(more) {
        if let Some(parent) = parent {
            let role = codec::to_word(&role)?;
            statement.execute(params![child.key(), role, place, parent.key()])?;
        }
    }
    Ok(())
}

/// What an asset was made from, as far as it is still there.
pub fn parents(db: &Connection, child: AssetId) -> Result<Vec<Relative>> {
    let mut statement = db.prepare_cached(
        "SELECT role, place, parent AS other FROM lineage WHERE child = ?1 ORDER BY role, place",
    )?;
    let rows = statement.query_map([child.key()], entry)?;
    read(db, rows.collect::<rusqlite::Result<_>>()?)
}

/// What was made from an asset, the oldest first; at most 200. What it was given to several times in
/// the same role is named once.
pub fn children(db: &Connection, parent: AssetId) -> Result<Vec<Relative>> {
    let mut statement = db.prepare_cached(
        "SELECT role, min(place) AS place, child AS other FROM lineage
         JOIN assets ON assets.id = child AND assets.published = 1
         WHERE parent = ?1 GROUP BY assets.seq, role ORDER BY assets.seq, role LIMIT ?2",
    )?;
    let rows = statement.query_map(params![parent.key(), LISTED], entry)?;
    read(db, rows.collect::<rusqlite::Result<_>>()?)
}

/// Role, place, and the other asset.
type Entry = (ParentRole, u32, AssetId);

fn entry(row: &rusqlite::Row<'_>) -> rusqlite::Result<Entry> {
    Ok((
        codec::word(row, "role")?,
        row.get("place")?,
        codec::id(row, "other")?,
    ))
}

fn read(db: &Connection, entries: Vec<Entry>) -> Result<Vec<Relative>> {
    let mut found = Vec::with_capacity(entries.len());
    for (role, place, id) in entries {
        if let Some(asset) = assets::get(db, id)? {
            found.push(Relative { role, place, asset });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use kinora_core::{PlannedImage, PlannedPicture, PlannedSource};

    use super::*;
    use crate::{assets::fixtures, migrations};

    fn roles(relatives: &[Relative]) -> Vec<(ParentRole, AssetId)> {
        (relatives.iter())
            .map(|relative| (relative.role, relative.asset.id))
            .collect()
    }

    fn given(asset: AssetId) -> PlannedPicture {
        PlannedPicture {
            sha256: "ab".repeat(32).parse().unwrap(),
            width: 64,
            height: 32,
            asset: Some(asset),
            path: "".into(),
        }
    }

    fn source(asset: AssetId) -> PlannedSource {
        PlannedSource {
            image: given(asset),
            mask: None,
            strength: None,
            more_images: Vec::new(),
            end_image: None,
        }
    }

    #[test]
    fn an_asset_knows_what_it_was_made_from_and_what_was_made_from_it() {
        let mut db = fixtures::database();
        migrations::apply(&mut db, 0).unwrap();
        let picture = fixtures::store(&mut db, &fixtures::artifact("picture", None));
        let mut draft = fixtures::artifact("draft", None);
        draft.recipe.plan.source = Some(source(picture));
        let draft_id = fixtures::store(&mut db, &draft);
        let mut full = fixtures::artifact("full", None);
        full.recipe.plan.source = Some(source(picture));
        full.recipe.plan.parent = Some(draft_id);
        let full_id = fixtures::store(&mut db, &full);

        assert!(parents(&db, picture).unwrap().is_empty());
        let image = ParentRole::Image;
        assert_eq!(
            roles(&children(&db, picture).unwrap()),
            [(image, draft_id), (image, full_id)]
        );
        assert_eq!(
            roles(&parents(&db, full_id).unwrap()),
            [(ParentRole::Draft, draft_id), (image, picture)]
        );
        // A parent that was deleted is not missed, and a child that was deleted is forgotten.
        db.pragma_update(None, "foreign_keys", true).unwrap();
        for gone in [draft_id, picture] {
            db.execute("DELETE FROM assets WHERE id = ?1", [gone.key()])
                .unwrap();
        }
        assert!(parents(&db, full_id).unwrap().is_empty());
        let left: i64 = db
            .query_row("SELECT count(*) FROM lineage", [], |row| row.get(0))
            .unwrap();
        assert_eq!(left, 2, "only those of the one that is there");
    }

    #[test]
    fn every_picture_that_was_given_is_a_parent() {
        let mut db = fixtures::database();
        migrations::apply(&mut db, 0).unwrap();
        let [first, second] =
            ["a", "b"].map(|name| fixtures::store(&mut db, &fixtures::artifact(name, None)));
        let mut child = fixtures::artifact("child", None);
        let more = [second, first, second].map(|asset| PlannedImage {
            image: given(asset),
            strength: Some(1.0),
        });
        child.recipe.plan.source = Some(PlannedSource {
            more_images: more.into(),
            ..source(first)
        });
        let child = fixtures::store(&mut db, &child);

        let found = parents(&db, child).unwrap();
        let (image, more) = (ParentRole::Image, ParentRole::MoreImage);
        assert_eq!(
            roles(&found),
            [
                (image, first),
                (more, second),
                (more, first),
                (more, second)
            ]
        );
        let places: Vec<u32> = found.iter().map(|parent| parent.place).collect();
        assert_eq!(places, [0, 0, 1, 2]);
        assert_eq!(
            roles(&children(&db, first).unwrap()),
            [(image, child), (more, child)]
        );
        assert_eq!(roles(&children(&db, second).unwrap()), [(more, child)]);

        db.pragma_update(None, "foreign_keys", true).unwrap();
        // What was given may go; what was made from it stays, and names what is left.
        db.execute("DELETE FROM assets WHERE id = ?1", [second.key()])
            .unwrap();
        assert_eq!(
            roles(&parents(&db, child).unwrap()),
            [(image, first), (more, first)]
        );
    }

    #[test]
    fn assets_from_before_the_table_have_their_parents_too() {
        let mut db = fixtures::database();
        migrations::apply_until(&mut db, 0, 2).unwrap();
        let parent = AssetId::new();
        let other = AssetId::new();
        let more = serde_json::json!([{ "image": {} }, { "image": { "asset": other } }]);
        let source = serde_json::json!({ "image": { "asset": parent }, "more_images": more });
        let recipe = serde_json::json!({ "plan": { "source": source } });
        db.execute_batch("INSERT INTO planned_models (json) VALUES ('{}');")
            .unwrap();
        for (id, recipe) in [(1_u8, recipe.to_string()), (2, "{}".to_owned())] {
            db.execute(
                "INSERT INTO assets (id, kind, format, path, published, width, height, bytes,
                     sha256, model, recipe, prompt, model_name, seed, created_at)
                 VALUES (?1, 'image', 'png', ?2, 1, 1, 1, 1, '', 1, ?3, 'a', 'm', '7', 1)",
                params![[id; 16], format!("{id}.png"), recipe],
            )
            .unwrap();
        }
        migrations::apply(&mut db, 2).unwrap();
        let found: Vec<([u8; 16], [u8; 16], String, u32)> = db
            .prepare("SELECT child, parent, role, place FROM lineage ORDER BY role")
            .unwrap()
            .query_map([], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .unwrap()
            .collect::<rusqlite::Result<_>>()
            .unwrap();
        assert_eq!(
            found,
            [
                ([1; 16], parent.key(), "image".to_owned(), 0),
                ([1; 16], other.key(), "more_image".to_owned(), 1)
            ]
        );
    }
}
