//! A cable to a server: it passes bytes on, until a test cuts it, pulls the plug, or mends it.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// How a cable is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    Whole,
    /// Nothing comes through, and nobody is told: what was sent waits on the way.
    Cut,
    /// Whoever comes is turned away.
    Unplugged,
}

struct Inner {
    is: Is,
    open: Vec<TcpStream>,
}

type Shared = Arc<(Mutex<Inner>, Condvar)>;

/// A cable; what hangs on it hangs there as long as the test lives.
pub struct Cable {
    pub port: u16,
    shared: Shared,
}

impl Cable {
    /// A cable to a port of this machine.
    pub fn to(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared: Shared = Arc::new((Mutex::new(Inner { is: Is::Whole, open: Vec::new() }), Condvar::new()));
        let plugged = Arc::clone(&shared);
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let Ok(near) = near else { break };
                let plugged = Arc::clone(&plugged);
                std::thread::spawn(move || lay(near, server, &plugged));
            }
        });
        Self { port, shared }
    }

    /// Nothing comes through any more.
    pub fn cut(&self) {
        lock(&self.shared).is = Is::Cut;
    }

    /// All connections are closed, and whoever comes is turned away.
    pub fn unplug(&self) {
        let mut inner = lock(&self.shared);
        inner.is = Is::Unplugged;
        for end in inner.open.drain(..) {
            drop(end.shutdown(Shutdown::Both));
        }
        self.shared.1.notify_all();
    }

    /// It is whole again: what waited comes through.
    pub fn mend(&self) {
        lock(&self.shared).is = Is::Whole;
        self.shared.1.notify_all();
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Inner> {
    shared.0.lock().expect("no thread panicked here")
}

/// One connection: two directions.
fn lay(near: TcpStream, server: u16, shared: &Shared) {
    if lock(shared).is == Is::Unplugged {
        return;
    }
    let Ok(far) = TcpStream::connect(("127.0.0.1", server)) else { return };
    let twice = |stream: &TcpStream| stream.try_clone().expect("a second handle");
    lock(shared).open.extend([twice(&near), twice(&far)]);
    let (from, to, held) = (twice(&far), twice(&near), Arc::clone(shared));
    std::thread::spawn(move || pass(from, to, &held));
    pass(near, far, shared);
}

/// Passes bytes on in one direction, and their end too.
fn pass(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let mut bytes = [0; 8192];
    loop {
        let read = from.read(&mut bytes).unwrap_or(0);
        drop(shared.1.wait_while(lock(shared), |inner| inner.is == Is::Cut).expect("no thread panicked here"));
        if read == 0 || to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
}
