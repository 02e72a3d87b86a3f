//! Media: whole, in parts, and not again.

use std::str::FromStr;

use kinora_core::{AssetId, BatchId, JobId};
use kinora_http::Media;

use crate::fake::Site;

const ID: &str = "01900000-0000-7000-8000-000000000001";

struct Shelf {
    site: Site,
    folder: tempfile::TempDir,
    bytes: Vec<u8>,
}

async fn shelf() -> Shelf {
    let site = Site::open().await;
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..300_000_u32).map(|i| (i * 7 % 251) as u8).collect();
    let path = folder.path().join("x.png");
    std::fs::write(&path, &bytes).unwrap();
    site.app.put_file(
        Media::Asset(AssetId::from_str(ID).unwrap()),
        path.clone(),
        Some("abc"),
    );
    site.app.put_file(
        Media::Thumbnail {
            asset: AssetId::from_str(ID).unwrap(),
            longest: 512,
        },
        path.clone(),
        Some("abc-512"),
    );
    site.app.put_file(
        Media::Preview {
            job: JobId::from_str(ID).unwrap(),
            is_moving: false,
        },
        path.clone(),
        None,
    );
    site.app
        .put_file(Media::Sheet(BatchId::from_str(ID).unwrap()), path, None);
    Shelf {
        site,
        folder,
        bytes,
    }
}

#[tokio::test]
async fn files_come_whole_or_in_part() {
    let shelf = shelf().await;
    let url = format!("/media/assets/{ID}");
    let whole = shelf.site.get(&url, &[]).await;
    assert_eq!(whole.status, 200);
    assert!(whole.body == shelf.bytes);
    assert_eq!(whole.header("content-type"), "image/png");
    assert_eq!(whole.header("accept-ranges"), "bytes");
    assert_eq!(whole.header("etag"), "\"abc\"");
    assert_eq!(
        whole.header("cache-control"),
        "private, max-age=31536000, immutable"
    );
    assert_eq!(
        whole.header("content-disposition"),
        "inline; filename*=UTF-8''a%20fox%2C%20%E7%8C%AB.png"
    );
    assert_eq!(whole.header("content-encoding"), "");
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=70000-200000", 70_000, 200_000),
        ("bytes=-5", 299_995, 299_999),
        ("bytes=299999-", 299_999, 299_999),
    ] {
        let part = shelf
            .site
            .get(&url, &[("Range", range), ("Accept-Encoding", "gzip")])
            .await;
        assert_eq!(part.status, 206, "{range}");
        assert_eq!(
            part.header("content-range"),
            format!("bytes {first}-{last}/300000")
        );
        assert_eq!(
            part.header("content-length"),
            (last - first + 1).to_string()
        );
        assert!(part.body == shelf.bytes[first..=last], "{range}");
    }
    let outside = shelf.site.get(&url, &[("Range", "bytes=300000-")]).await;
    assert_eq!(
        (outside.status, outside.header("content-range")),
        (416, "bytes */300000")
    );
    let head = shelf
        .site
        .ask("HEAD", &url, &[("Range", "bytes=0-1")], "")
        .await;
    assert_eq!(
        (head.status, head.header("content-length"), head.body.len()),
        (200, "300000", 0)
    );
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    let shelf = shelf().await;
    for url in [
        format!("/media/assets/{ID}"),
        format!("/media/thumbnails/{ID}?size=512"),
        format!("/media/previews/{ID}?v=3"),
        format!("/media/sheets/{ID}"),
    ] {
        let first = shelf.site.get(&url, &[]).await;
        let tag = first.header("etag").to_owned();
        assert!(tag.starts_with('"') && tag.ends_with('"'), "{url}");
        let again = shelf.site.get(&url, &[("If-None-Match", &tag)]).await;
        assert_eq!(
            (again.status, again.body.len(), again.header("etag")),
            (304, 0, tag.as_str()),
            "{url}"
        );
        assert_eq!(
            shelf
                .site
                .get(&url, &[("If-None-Match", "\"other\"")])
                .await
                .status,
            200
        );
        let part = shelf
            .site
            .get(&url, &[("Range", "bytes=0-9"), ("If-Range", &tag)])
            .await;
        assert_eq!(part.status, 206);
        let part = shelf
            .site
            .get(&url, &[("Range", "bytes=0-9"), ("If-Range", "\"other\"")])
            .await;
        assert_eq!(part.status, 200);
    }
    // A preview that is written anew is another version.
    let url = format!("/media/previews/{ID}");
    let before = shelf.site.get(&url, &[]).await;
    assert_eq!(before.header("cache-control"), "private, no-cache");
    std::fs::write(shelf.folder.path().join("x.png"), b"new").unwrap();
    let after = shelf
        .site
        .get(&url, &[("If-None-Match", before.header("etag"))])
        .await;
    assert_eq!(
        (after.status, after.body.as_slice()),
        (200, b"new".as_slice())
    );
}

#[tokio::test]
async fn a_missing_file_and_a_folder_are_not_found() {
    let shelf = shelf().await;
    std::fs::remove_file(shelf.folder.path().join("x.png")).unwrap();
    let url = format!("/media/assets/{ID}");
    assert_eq!(shelf.site.get(&url, &[]).await.code(), "not_found");
    std::fs::create_dir(shelf.folder.path().join("x.png")).unwrap();
    assert_eq!(shelf.site.get(&url, &[]).await.code(), "not_found");
}

#[tokio::test]
async fn no_path_leads_out() {
    let site = Site::open().await;
    let parts = [
        "..",
        "%2e%2e",
        "..%2f..",
        "%2e%2e%2f",
        "..%5c..",
        "....//",
        "%00",
        "%c0%ae%c0%ae",
    ];
    let roots = [
        "/",
        "/media/assets/",
        "/media/thumbnails/",
        "/media/previews/",
        "/media/sheets/",
        "/docs/",
        "/assets/",
    ];
    for root in roots {
        for part in parts {
            for rest in [
                "/etc/passwd",
                "%2fetc%2fpasswd",
                "/../../../../etc/passwd",
                "/Cargo.toml",
                "/../../crates/kinora-http/Cargo.toml",
            ] {
                let answer = site.get(&format!("{root}{part}{rest}"), &[]).await;
                let text = String::from_utf8_lossy(&answer.body);
                assert!(
                    !text.contains("root:") && !text.contains("[package]"),
                    "{root}{part}{rest}"
                );
                assert!(
                    [200, 400, 404].contains(&answer.status),
                    "{root}{part}{rest}: {}",
                    answer.status
                );
                assert!(
                    answer.status != 200 || text.contains("<html") || text.contains("<!doctype"),
                    "{root}{part}{rest}"
                );
            }
        }
    }
}
