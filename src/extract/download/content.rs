//! Which ending a file gets: by its first bytes, else by what its server says, else by its address.

/// Endings by the first bytes of a file, with the place where these stand.
const MAGIC: &[(usize, &[u8], &str)] = &[
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xFF\xD8\xFF", "jpg"),
    (0, b"GIF87a", "gif"),
    (0, b"GIF89a", "gif"),
    (8, b"WEBP", "webp"),
    (8, b"WAVE", "wav"),
    (4, b"ftypavif", "avif"),
    (4, b"ftyphei", "heic"),
    (4, b"ftypqt", "mov"),
    (4, b"ftyp", "mp4"),
    (0, b"\x1A\x45\xDF\xA3", "webm"),
    (0, b"II*\0", "tif"),
    (0, b"MM\0*", "tif"),
    (0, b"\0\0\x01\0", "ico"),
    (0, b"%PDF-", "pdf"),
    (0, b"ID3", "mp3"),
    (0, b"OggS", "ogg"),
    (0, b"BM", "bmp"),
];

/// Endings by what a server says of a file.
const TOLD: &[(&str, &str)] = &[
    ("image/png", "png"),
    ("image/jpeg", "jpg"),
    ("image/gif", "gif"),
    ("image/webp", "webp"),
    ("image/avif", "avif"),
    ("image/heic", "heic"),
    ("image/svg+xml", "svg"),
    ("image/bmp", "bmp"),
    ("image/tiff", "tif"),
    ("image/x-icon", "ico"),
    ("image/vnd.microsoft.icon", "ico"),
    ("application/pdf", "pdf"),
    ("application/json", "json"),
    ("application/zip", "zip"),
    ("application/xml", "xml"),
    ("text/xml", "xml"),
    ("text/html", "html"),
    ("text/csv", "csv"),
    ("text/plain", "txt"),
    ("audio/mpeg", "mp3"),
    ("video/mp4", "mp4"),
    ("video/webm", "webm"),
];

/// The ending of a file, without the dot.
pub(super) fn ending(bytes: &[u8], content_type: Option<&str>, path: &str) -> String {
    let magic = MAGIC.iter().find(|(at, magic, _)| bytes.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    if let Some((_, _, ending)) = magic {
        return (*ending).to_owned();
    }
    let told = content_type.map(|told| told.split(';').next().unwrap_or(told).trim().to_ascii_lowercase());
    if let Some((_, ending)) = TOLD.iter().find(|(name, _)| told.as_deref() == Some(name)) {
        return (*ending).to_owned();
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    let written = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    let plain =
        |ending: &String| (1..=5).contains(&ending.len()) && ending.bytes().all(|byte| byte.is_ascii_alphanumeric());
    written.filter(plain).unwrap_or_else(|| "bin".to_owned())
}

/// What a bucket is told of a file with this ending.
pub(super) fn content_type(ending: &str) -> Option<&'static str> {
    TOLD.iter().find(|(_, known)| *known == ending).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_win_over_the_server_and_the_server_over_the_address() {
        assert_eq!(ending(b"\x89PNG\r\n\x1a\nrest", Some("image/jpeg"), "/a.gif"), "png");
        assert_eq!(ending(b"RIFF1234WEBPVP8 ", None, "/a"), "webp");
        assert_eq!(ending(b"<svg/>", Some("image/svg+xml; charset=utf-8"), "/a"), "svg");
        assert_eq!(ending(b"?", Some("application/octet-stream"), "/x/a.STL"), "stl");
        assert_eq!(ending(b"", None, "/x.y/a"), "bin");
        assert_eq!(content_type("jpg"), Some("image/jpeg"));
    }
}
