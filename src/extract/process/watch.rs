//! The watch over a program: its group of processes is ended with it, and also when haul itself is killed.
//!
//! The crate has no `unsafe`, so it cannot ask the kernel to kill a child with its parent. Instead a shell leads the
//! program's group of processes and reads a pipe that only haul holds: it signals the group on haul's word, and when the
//! pipe closes, which it does however haul ends.

use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};

/// What the shell does: its words are `term` and `end`; the pipe's end means that haul is gone, and so must be the private
/// folder, which is its first argument, where there is one.
const SCRIPT: &str = r#"
trap '' TERM INT HUP
while read -r word; do
    case "$word" in
    term) kill -TERM 0 ;;
    *) kill -KILL 0 ;;
    esac
done
test -z "$1" || rm -rf -- "$1"
kill -TERM 0
sleep 2
kill -KILL 0
"#;

/// The leader of a program's group of processes; when it is dropped, the group is ended as if haul had been killed.
pub struct Watch {
    shell: Child,
    words: Option<ChildStdin>,
    group: i32,
}

impl Watch {
    /// Begins to watch; `folder`, if there is one, goes away with the group when haul is killed.
    ///
    /// # Errors
    /// A shell that cannot be started.
    pub fn begin(folder: Option<&Path>) -> std::io::Result<Self> {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(SCRIPT).arg("haul-watch").arg(folder.unwrap_or(Path::new("")));
        shell.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").current_dir("/");
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let mut shell = shell.spawn()?;
        let words = shell.stdin.take();
        let group = shell.id().and_then(|id| i32::try_from(id).ok()).unwrap_or_default();
        Ok(Self { shell, words, group })
    }

    /// The group that the program joins.
    pub fn group(&self) -> i32 {
        self.group
    }

    /// Asks all processes of the group to end.
    pub async fn ask(&mut self) {
        self.say(b"term\n").await;
    }

    /// Ends what is left of the group.
    pub async fn end(&mut self) {
        self.say(b"end\n").await;
        self.words = None;
        let _ = self.shell.wait().await;
    }

    async fn say(&mut self, word: &[u8]) {
        // A shell that is gone has taken its group with it, or somebody else has.
        if let Some(words) = &mut self.words {
            let _ = words.write_all(word).await;
            let _ = words.flush().await;
        }
    }
}
