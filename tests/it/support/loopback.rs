//! Servers of tests on a loopback port of their own.

#![expect(clippy::expect_used, reason = "a test that cannot go on says why")]

use axum::Router;

/// Answers on a free port, on a thread of its own, until the test's process ends; the address, without a slash behind it.
pub fn serve(router: Router) -> String {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
            tell.send(listener.local_addr().expect("an address")).expect("the test listens");
            axum::serve(listener, router).await.expect("the server runs");
        });
    });
    format!("http://{}", told.recv().expect("the server starts"))
}
