//! Journal and segments, cut at every byte.

use std::fs;
use std::path::Path;

use haul::error::Kind;
use haul::model::page::Progress;
use haul::stage::{Manifest, Spec, Stage, discard, read};
use haul::time::Tz;

use super::{append, day, entry, folder, rows, sealed, spec};

const PAGES: [&str; 4] =
    ["{\"id\":1}\n{\"id\":2,\"t\":\"two\"}", "", "{\"id\":3,\"t\":null}\n{\"id\":4.5}", "{\"id\":5}"];

fn copy(from: &Path, to: &Path) {
    discard(to).expect("removed");
    fs::create_dir_all(to.join("segments")).expect("folders");
    for name in ["journal.jsonl", "manifest.json"] {
        fs::copy(from.join(name), to.join(name)).expect("a copy");
    }
    for segment in fs::read_dir(from.join("segments")).expect("segments") {
        let segment = segment.expect("a segment");
        fs::copy(segment.path(), to.join("segments").join(segment.file_name())).expect("a copy");
    }
}

/// What must be the same however often a stage was interrupted; the names of the segments may differ.
fn essence(manifest: &Manifest) -> Manifest {
    Manifest { segments: Vec::new(), ..manifest.clone() }
}

/// Opens a damaged stage, asserts that its first `durable` pages are there, brings the others and compares the end.
fn mended(dir: &Path, durable: u64, whole: &Manifest, shown: &str) {
    let stage = Stage::open(dir, spec()).expect("a stage");
    let progress = stage.progress();
    assert_eq!((progress.done, progress.beyond.len()), (durable, 0), "{shown}");
    let last = durable
        .checked_sub(1)
        .map(|last| entry(last, PAGES[usize::try_from(last).expect("small")].lines().count() as u64));
    assert_eq!(progress.last, last, "{shown}");
    if durable == PAGES.len() as u64 {
        assert_eq!(stage.sealed().as_ref().map(essence), Some(essence(whole)), "{shown}");
    } else {
        assert_eq!(stage.sealed(), None, "{shown}: a seal over lost pages is none");
    }
    for number in durable..PAGES.len() as u64 {
        append(&stage, number, PAGES[usize::try_from(number).expect("small")]).expect("a page");
    }
    let manifest = stage.seal().expect("a manifest");
    assert_eq!(essence(&manifest), essence(whole), "{shown}");
    assert_eq!(rows(&manifest), rows(whole), "{shown}");
}

#[test]
fn a_journal_cut_at_any_byte_loses_the_torn_page_and_those_behind_it_only() {
    let folder = folder();
    let (original, damaged) = (folder.path().join("original"), folder.path().join("damaged"));
    let whole = sealed(&original, spec(), &PAGES);
    let journal = fs::read(original.join("journal.jsonl")).expect("a journal");
    assert!(whole.segments.len() > 1 && whole.pages == 4, "{whole:?}");
    for cut in 0..=journal.len() {
        copy(&original, &damaged);
        fs::write(damaged.join("journal.jsonl"), &journal[..cut]).expect("a cut");
        let lines = journal[..cut].iter().filter(|byte| **byte == b'\n').count();
        mended(&damaged, lines.saturating_sub(1) as u64, &whole, &format!("cut at {cut}"));
    }
}

#[test]
fn a_segment_cut_at_any_byte_loses_its_torn_page_and_those_behind_it_only() {
    let folder = folder();
    let (original, damaged) = (folder.path().join("original"), folder.path().join("damaged"));
    let whole = sealed(&original, spec(), &PAGES);
    let journal = fs::read_to_string(original.join("journal.jsonl")).expect("a journal");
    let lines: Vec<serde_json::Value> =
        journal.lines().skip(1).map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for (number, segment) in whole.segments.iter().enumerate() {
        let bytes = fs::read(segment).expect("a segment");
        for cut in 0..bytes.len() {
            copy(&original, &damaged);
            let name = damaged.join("segments").join(segment.file_name().expect("a name"));
            fs::write(&name, &bytes[..cut]).expect("a cut");
            let torn = lines.iter().position(|line| {
                let end = line["offset"].as_u64().expect("an offset") + line["length"].as_u64().expect("a length");
                line["segment"].as_u64() == Some(number as u64 + 1) && end > cut as u64
            });
            let durable = torn.expect("the last byte belongs to a page");
            mended(&damaged, durable as u64, &whole, &format!("segment {number} cut at {cut}"));
        }
    }
}

#[test]
fn a_byte_that_rotted_anywhere_in_a_segment_is_no_row() {
    let folder = folder();
    let (original, damaged) = (folder.path().join("original"), folder.path().join("damaged"));
    let whole = sealed(&original, spec(), &PAGES);
    let bytes = fs::read(&whole.segments[0]).expect("a segment");
    for at in 0..bytes.len() {
        copy(&original, &damaged);
        let mut rotten = bytes.clone();
        rotten[at] ^= 0x20;
        fs::write(damaged.join("segments").join(whole.segments[0].file_name().expect("a name")), rotten)
            .expect("written");
        let stage = Stage::open(&damaged, spec()).expect("a stage");
        assert!(stage.progress().done < 4 && stage.sealed().is_none(), "byte {at}");
    }
}

#[test]
fn what_stands_behind_the_last_whole_line_is_cut_off() {
    let folder = folder();
    let (original, damaged) = (folder.path().join("original"), folder.path().join("damaged"));
    let whole = sealed(&original, spec(), &PAGES);
    for garbage in ["{\"page\":{\"num", "\0\0\0\0\0\0\0\0", "{}\n", "\n\n"] {
        copy(&original, &damaged);
        for name in ["journal.jsonl", "segments/000001.ndjson.zst"] {
            let mut bytes = fs::read(damaged.join(name)).expect("a file");
            bytes.extend_from_slice(garbage.as_bytes());
            fs::write(damaged.join(name), bytes).expect("written");
        }
        mended(&damaged, 4, &whole, garbage);
    }
}

#[test]
fn another_request_or_table_or_unit_begins_anew() {
    let others: [(&str, Spec); 6] = [
        ("request", Spec { request: "GET /others".to_owned(), ..spec() }),
        ("table", Spec { table: haul::model::name::TableName::parse("raw.others").expect("a name"), ..spec() }),
        ("unit", Spec { units: vec![day("2024-03-02")], ..spec() }),
        ("units", Spec { units: vec![day("2024-03-01"), day("2024-03-02")], ..spec() }),
        ("split", Spec { split: true, ..spec() }),
        ("zone", Spec { tz: Tz::Asia__Seoul, ..spec() }),
    ];
    for (what, other) in others {
        let folder = folder();
        sealed(folder.path(), spec(), &PAGES);
        let stage = Stage::open(folder.path(), other).expect("a stage");
        assert_eq!((stage.progress(), stage.sealed()), (Progress::default(), None), "{what}");
        let manifest = stage.seal().expect("a manifest");
        assert_eq!((manifest.rows, manifest.pages, manifest.segments.len()), (0, 0, 0), "{what}");
    }
}

#[test]
fn a_sealed_stage_is_the_same_when_it_is_opened_again_and_sealing_twice_changes_nothing() {
    let folder = folder();
    let whole = sealed(folder.path(), spec(), &PAGES);
    let again = Stage::open(folder.path(), spec()).expect("a stage");
    assert_eq!(again.sealed().as_ref(), Some(&whole));
    assert_eq!(again.seal().expect("a manifest"), whole);
    assert_eq!(read(folder.path()).expect("a manifest"), whole);
    // Another attempt of the same pull finds it too.
    let renumbered = Stage::open(folder.path(), Spec { pull: 2, ..spec() }).expect("a stage");
    assert_eq!(renumbered.sealed().map(|manifest| manifest.rows), Some(5));
    discard(folder.path()).expect("removed");
    discard(folder.path()).expect("a stage that is not there is no error");
}

#[test]
fn pages_may_come_side_by_side_and_in_any_order() {
    let folder = folder();
    let whole = sealed(&folder.path().join("one"), spec(), &PAGES);
    let dir = folder.path().join("many");
    let stage = Stage::open(&dir, spec()).expect("a stage");
    std::thread::scope(|scope| {
        for number in [3, 1, 2] {
            let stage = &stage;
            scope.spawn(move || append(stage, number, PAGES[usize::try_from(number).expect("small")]).expect("a page"));
        }
    });
    let progress = stage.progress();
    assert_eq!((progress.done, progress.beyond.iter().copied().collect::<Vec<_>>()), (0, vec![1, 2, 3]));
    drop(stage);
    let stage = Stage::open(&dir, spec()).expect("a stage");
    assert_eq!(stage.progress().beyond, progress.beyond, "gaps are remembered");
    append(&stage, 0, PAGES[0]).expect("a page");
    assert_eq!((stage.progress().done, stage.progress().last), (4, None));
    let manifest = stage.seal().expect("a manifest");
    assert_eq!(essence(&manifest), essence(&whole), "shape, fingerprints and places are the same in any order");
    assert_eq!(rows(&manifest), rows(&whole));
}

#[test]
fn no_page_is_staged_twice() {
    let folder = folder();
    let stage = Stage::open(folder.path(), spec()).expect("a stage");
    append(&stage, 0, PAGES[0]).expect("a page");
    let error = append(&stage, 0, PAGES[0]).expect_err("it is there");
    assert_eq!(error.kind(), Kind::Internal);
    assert_eq!(stage.seal().expect("a manifest").rows, 2);
}

#[test]
fn a_page_that_cannot_be_written_lets_no_other_count_as_durable() {
    let folder = folder();
    let stage = Stage::open(folder.path(), spec()).expect("a stage");
    append(&stage, 0, PAGES[0]).expect("a page");
    // The next segment cannot be created where its folder is gone.
    fs::rename(folder.path().join("segments"), folder.path().join("gone")).expect("moved");
    let mut refused = 0;
    for number in 1..4 {
        refused += u32::from(append(&stage, number, PAGES[2]).is_err_and(|error| error.kind() == Kind::Storage));
    }
    fs::rename(folder.path().join("gone"), folder.path().join("segments")).expect("moved");
    assert!(append(&stage, 9, PAGES[2]).is_err() && refused >= 2, "{refused}");
    let durable = stage.progress().done;
    drop(stage);
    assert_eq!(Stage::open(folder.path(), spec()).expect("a stage").progress().done, durable);
}
