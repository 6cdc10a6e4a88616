//! A PostgreSQL server of a test's own: a temporary folder, a free port, an unprivileged user, a password.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::doors::nobody;

/// A running server; it ends with the value.
pub struct Postgres {
    pub port: u16,
    server: Child,
    folder: tempfile::TempDir,
}

impl Postgres {
    /// The superuser.
    pub const USER: &'static str = "postgres";

    /// Starts a server whose superuser has this password; the error says which program is not there.
    pub fn start(password: &str) -> Result<Self, String> {
        let binaries = binaries().ok_or("no `postgres` and `initdb` on the PATH or below /usr/lib/postgresql")?;
        let folder = tempfile::tempdir().expect("a folder");
        let secret = folder.path().join("password");
        fs::write(&secret, password).expect("a file");
        let unprivileged = unprivileged();
        if let Some((user, _)) = &unprivileged {
            let chown = Command::new("chown").arg("-R").arg(user).arg(folder.path()).status().expect("chown");
            assert!(chown.success());
        }
        let data = folder.path().join("data");
        let initdb = command(unprivileged.as_ref(), &binaries.join("initdb"), folder.path())
            .args(["-U", Self::USER, "-A", "scram-sha-256", "-E", "UTF8", "--no-sync", "--pwfile"])
            .arg(&secret)
            .arg("-D")
            .arg(&data)
            .output()
            .expect("initdb starts");
        assert!(initdb.status.success(), "{}", String::from_utf8_lossy(&initdb.stderr));
        // Somebody else may take the port before the server does: then another one is tried.
        for _ in 0..5 {
            let port = nobody();
            let log = fs::File::create(folder.path().join("log")).expect("a log");
            let mut server = command(unprivileged.as_ref(), &binaries.join("postgres"), folder.path())
                .arg("-D")
                .arg(&data)
                .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-k"])
                .arg(folder.path())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .expect("postgres starts");
            if is_ready(&mut server, &data) {
                return Ok(Self { port, server, folder });
            }
        }
        panic!("postgres does not start: {}", fs::read_to_string(folder.path().join("log")).unwrap_or_default());
    }
}

impl Postgres {
    /// What the server has written into its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).expect("a log")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A fast shutdown; the server's processes end with it.
        let _ = Command::new("kill").args(["-INT", &self.server.id().to_string()]).status();
        let _ = self.server.wait();
    }
}

/// The folder with the server's programs.
fn binaries() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let folders = std::env::split_paths(&path).chain(debian.map(|version| version.path().join("bin")));
    let mut found = folders.filter(|folder| folder.join("postgres").is_file() && folder.join("initdb").is_file());
    // A link on the PATH is fine: both look for their parts where they really are.
    found.next()
}

/// The answer of `id`; none for a user that is not there.
fn id(arguments: &[&str]) -> Option<String> {
    let output = Command::new("id").args(arguments).output().expect("id");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The user to become, and its group: PostgreSQL does not run as root.
fn unprivileged() -> Option<(String, String)> {
    if id(&["-u"]).as_deref() != Some("0") {
        return None;
    }
    ["postgres", "nobody"].into_iter().find_map(|user| Some((id(&["-u", user])?, id(&["-g", user])?)))
}

fn command(user: Option<&(String, String)>, program: &Path, folder: &Path) -> Command {
    let mut command = match user {
        Some((user, group)) => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", user, "--regid", group, "--clear-groups"]).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.current_dir(folder).env("HOME", folder).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    command
}

/// Waits until the server says in its own file that it takes connections.
fn is_ready(server: &mut Child, data: &Path) -> bool {
    let end = Instant::now() + Duration::from_mins(1);
    while Instant::now() < end {
        if server.try_wait().expect("a child").is_some() {
            return false;
        }
        let told = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
        if told.lines().any(|line| line.trim() == "ready") {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
