//! A MariaDB server of a test's own: a temporary folder, a free port, an unprivileged user, a password.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::doors::nobody;

/// A running server; it ends with the value.
pub struct MariaDb {
    pub port: u16,
    server: Child,
    _folder: tempfile::TempDir,
}

impl MariaDb {
    /// The user who may do everything.
    pub const USER: &'static str = "tester";

    /// Starts a server whose user has this password; it panics with what to call where the server is not there.
    pub fn start(password: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let user = if is_root() { "mysql" } else { "" };
        if is_root() {
            let chown = Command::new("chown").args(["-R", "mysql"]).arg(folder.path()).status().expect("chown");
            assert!(chown.success(), "there is no user `mysql`: scripts/counterparts.sh mariadb installs the server");
        }
        let made = Command::new(program("mariadb-install-db"))
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-log-bin"])
            .args(as_user(user))
            .arg(format!("--datadir={}", data.display()))
            .output()
            .expect("mariadb-install-db starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let init = folder.path().join("init.sql");
        let user_name = Self::USER;
        fs::write(
            &init,
            format!(
                "CREATE USER {user_name}@'127.0.0.1' IDENTIFIED BY '{password}';\nGRANT ALL ON *.* TO {user_name}@'127.0.0.1' WITH GRANT OPTION;\n"
            ),
        )
        .expect("a file");
        // Somebody else may take the port before the server does: then another one is tried.
        for _ in 0..5 {
            let port = nobody();
            let log = fs::File::create(folder.path().join("log")).expect("a log");
            let mut server = Command::new(program("mariadbd"))
                .args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-log-bin", "--innodb-buffer-pool-size=64M"])
                .args(["--innodb-flush-log-at-trx-commit=0", "--skip-name-resolve"])
                .args(as_user(user))
                .arg(format!("--datadir={}", data.display()))
                // The folder of all may not be the server's user to write in.
                .arg(format!("--tmpdir={}", folder.path().display()))
                .arg(format!("--port={port}"))
                .arg(format!("--socket={}", folder.path().join("socket").display()))
                .arg(format!("--init-file={}", init.display()))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .expect("mariadbd starts");
            if is_ready(&mut server, port, folder.path()) {
                return Self { port, server, _folder: folder };
            }
        }
        panic!("mariadbd does not start: {}", fs::read_to_string(folder.path().join("log")).unwrap_or_default());
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        // Nothing of it is kept.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn as_user(user: &str) -> Option<String> {
    (!user.is_empty()).then(|| format!("--user={user}"))
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().expect("id");
    output.stdout.trim_ascii() == b"0"
}

/// A program on the PATH, or where Debian has it.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    let mut found = folders.map(|folder| folder.join(name)).filter(|program| program.is_file());
    found.next().unwrap_or_else(|| panic!("there is no `{name}`: scripts/counterparts.sh mariadb installs it"))
}

/// Waits until the server takes connections, which it does once it has read its first statements.
fn is_ready(server: &mut Child, port: u16, folder: &Path) -> bool {
    let end = Instant::now() + Duration::from_mins(1);
    while Instant::now() < end {
        if server.try_wait().expect("a child").is_some() {
            return false;
        }
        let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
        if log.contains("ready for connections") && TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
