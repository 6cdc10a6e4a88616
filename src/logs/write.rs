//! Writes a run's log: everything that matters, and of what a task says too much of, the first and the last.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::line::{Level, Line, What};
use super::words::{Words, words};
use super::{main_file, plain, spill_folder};
use crate::model::run::{RunRecord, TaskEvent, TaskId};
use crate::monitor::{Event, Monitor};
use crate::secret::Redactor;
use crate::time::Clock;

/// So many bytes of what a task says first stay, and of what it says last as many to twice as many.
const HEAD: u64 = 512 << 10;

/// The same for each task of a run whose tasks have said [`MUCH`] together.
const SMALL_HEAD: u64 = 16 << 10;

/// When the tasks of one run have said so many bytes, each further one may say less.
const MUCH: u64 = 64 << 20;

/// A line is cut after so many bytes.
const LONGEST: usize = 16 << 10;

/// How far a task has come is told so often.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Writes the log of one run, and passes everything on to whoever else listens.
pub struct RunLog {
    run: String,
    pipeline: String,
    clock: Clock,
    redactor: Redactor,
    next: Arc<dyn Monitor>,
    files: Mutex<Files>,
}

struct Files {
    main: Output,
    spills: PathBuf,
    lines: u64,
    chatter: u64,
    tasks: HashMap<TaskId, Talk>,
}

/// What a task has told so far.
struct Talk {
    begun: Instant,
    told: Instant,
    /// Whether its beginning is written down.
    started: bool,
    pages: u64,
    rows: u64,
    bytes: u64,
    /// The bytes that it has said into the main file.
    head: u64,
    said: u64,
    tail: Option<Tail>,
}

/// What a task says after its head is full: into two files in turn.
struct Tail {
    number: u64,
    output: Output,
    length: u64,
}

/// A file that is begun with its first line.
struct Output {
    path: PathBuf,
    file: Option<File>,
    /// A line may have been cut by a full disk.
    torn: bool,
}

impl Output {
    fn new(path: PathBuf) -> Self {
        Self { path, file: None, torn: false }
    }

    fn add(&mut self, line: &str) {
        if self.file.is_none() {
            let folder = self.path.parent().map_or(Ok(()), fs::create_dir_all);
            let open = || OpenOptions::new().create(true).append(true).open(&self.path);
            self.file = folder.and_then(|()| open()).ok();
        }
        let Some(file) = &mut self.file else { return };
        let begin = if self.torn { "\n" } else { "" };
        self.torn = file.write_all(format!("{begin}{line}\n").as_bytes()).is_err();
    }
}

impl Talk {
    fn begin() -> Self {
        let now = Instant::now();
        Self { begun: now, told: now, started: false, pages: 0, rows: 0, bytes: 0, head: 0, said: 0, tail: None }
    }
}

impl RunLog {
    /// The log of a run that begins; `next` hears everything too, after it was written.
    pub fn begin(
        state_dir: &Path,
        run: &RunRecord,
        clock: Clock,
        redactor: Redactor,
        next: Arc<dyn Monitor>,
    ) -> Arc<dyn Monitor> {
        let files = Files {
            main: Output::new(main_file(state_dir, &run.id)),
            spills: spill_folder(state_dir, &run.id),
            lines: 0,
            chatter: 0,
            tasks: HashMap::new(),
        };
        let (id, pipeline) = (run.id.clone(), run.pipeline.clone());
        Arc::new(Self { run: id, pipeline, clock, redactor, next, files: Mutex::new(files) })
    }

    fn write(&self, files: &mut Files, words: Words<'_>) {
        files.lines += 1;
        let chatter = words.is_chatter();
        let talk = words.task.map(|task| files.tasks.entry(task.clone()).or_insert_with(Talk::begin));
        let said = talk.filter(|_| chatter).map(|talk| {
            talk.said += 1;
            talk.said
        });
        let task = words.task.cloned();
        let line = Line {
            n: files.lines,
            at: self.clock.now(),
            level: words.level,
            run: self.run.clone(),
            pipeline: self.pipeline.clone(),
            step: task.as_ref().map(|task| task.step.clone()),
            unit: task.as_ref().map(|task| task.unit.clone()),
            what: words.what,
            text: shortened(self.redactor.redact(&words.text)),
            said,
            data: words.data,
        };
        let Ok(text) = serde_json::to_string(&line) else { return };
        match task.filter(|_| chatter) {
            Some(task) => files.chat(&task, &text),
            None => files.main.add(&text),
        }
    }

    /// What a task's end tells besides.
    fn measured(&self, files: &mut Files, task: &TaskId) -> Value {
        let Some(talk) = files.tasks.remove(task) else { return Value::Null };
        let mut data = json!({ "took_ms": u64::try_from(talk.begun.elapsed().as_millis()).unwrap_or(u64::MAX) });
        if talk.pages > 0 {
            data["pages"] = talk.pages.into();
            data["bytes"] = talk.bytes.into();
        }
        data
    }

    fn page(&self, files: &mut Files, task: &TaskId, (rows, bytes, total): (u64, u64, Option<u64>)) {
        let talk = files.tasks.entry(task.clone()).or_insert_with(Talk::begin);
        talk.pages += 1;
        talk.rows += rows;
        talk.bytes += bytes;
        if talk.told.elapsed() < PROGRESS_EVERY {
            return;
        }
        talk.told = Instant::now();
        let of = total.map(|total| format!(" of {total}")).unwrap_or_default();
        let text = format!("{} pages, {}{of} rows, {} bytes", talk.pages, talk.rows, talk.bytes);
        let data = json!({ "pages": talk.pages, "rows": talk.rows, "bytes": talk.bytes, "total": total });
        self.write(files, Words::new(Some(task), Level::Debug, What::Progress, text).with(data));
    }

    /// Writes that a task has begun, once: what it does may be heard before its first event is.
    fn started(&self, files: &mut Files, task: &TaskId) {
        let talk = files.tasks.entry(task.clone()).or_insert_with(Talk::begin);
        if !std::mem::replace(&mut talk.started, true) {
            let words = Words::new(Some(task), Level::Info, What::Started, "").with(json!({ "attempt": 1 }));
            self.write(files, words);
        }
    }

    fn listen(&self, event: &Event<'_>) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Task { task, event: TaskEvent::Started { attempt: 1 } }
            | Event::Page { task, .. }
            | Event::Boundary { task, .. }
            | Event::Resumed { task, .. }
            | Event::ResumedFan { task, .. }
            | Event::Retry { task, .. }
            | Event::Said { task, .. } => self.started(&mut files, task),
            _ => {}
        }
        match event {
            Event::Task { event: TaskEvent::Started { attempt: 1 }, .. } => {}
            Event::Page { task, rows, bytes, total } => self.page(&mut files, task, (*rows, *bytes, *total)),
            Event::Fan { task, tally } => {
                let talk = files.tasks.entry((*task).clone()).or_insert_with(Talk::begin);
                if talk.told.elapsed() >= PROGRESS_EVERY {
                    talk.told = Instant::now();
                    let text = format!("{} of {} requests, {} failed", tally.done, tally.total, tally.failed);
                    let data = json!({ "requests": tally.done, "of": tally.total, "failed": tally.failed });
                    self.write(&mut files, Words::new(Some(task), Level::Debug, What::Progress, text).with(data));
                }
            }
            event => {
                let Some(mut words) = words(event) else { return };
                let ends = !matches!(words.what, What::Started | What::Retried);
                if let (Event::Task { task, .. }, true) = (event, ends) {
                    words = words.with(self.measured(&mut files, task));
                    self.write(&mut files, words);
                    files.tasks.remove(task);
                } else {
                    self.write(&mut files, words);
                }
            }
        }
    }
}

impl Monitor for RunLog {
    fn event(&self, event: &Event<'_>) {
        self.listen(event);
        self.next.event(event);
    }
}

impl Files {
    /// Writes what a task says, where there is room for it.
    fn chat(&mut self, task: &TaskId, text: &str) {
        let room = if self.chatter < MUCH { HEAD } else { SMALL_HEAD };
        let length = text.len() as u64 + 1;
        self.chatter += length;
        let talk = self.tasks.entry(task.clone()).or_insert_with(Talk::begin);
        if talk.tail.is_none() && talk.head + length <= room {
            talk.head += length;
            return self.main.add(text);
        }
        let path = |number: u64| self.spills.join(format!("{}.{number}.jsonl", plain(&spill_name(task))));
        let tail = talk.tail.get_or_insert_with(|| Tail { number: 1, output: Output::new(path(1)), length: 0 });
        if tail.length + length > room && tail.length > 0 {
            if tail.number > 1 {
                // What cannot be removed is read once more than it need be.
                let _ = fs::remove_file(path(tail.number - 1));
            }
            *tail = Tail { number: tail.number + 1, output: Output::new(path(tail.number + 1)), length: 0 };
        }
        tail.length += length;
        tail.output.add(text);
    }
}

fn spill_name(task: &TaskId) -> String {
    format!("{}@{}", task.step, task.unit)
}

/// A text of bounded length.
fn shortened(mut text: String) -> String {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        let left = text.len() - end;
        text.truncate(end);
        text.push_str(&format!("… ({left} bytes more)"));
    }
    text
}
