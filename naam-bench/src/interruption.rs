//! SIGINT and SIGTERM for a run that made something where others work: it is removed before the process ends.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// From now on a signal runs `last` and then ends the process with 128 and its number, as shells expect it. A second signal does not
/// wait for `last`, and runs `impatient` instead.
///
/// # Errors
/// If signals cannot be waited for.
pub fn before_death(last: impl FnOnce() + Send + 'static, impatient: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let event_loop = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut signals = {
        let _entered = event_loop.enter();
        Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let number = event_loop.block_on(signals.next());
        let done = event_loop.block_on(async {
            tokio::select! {
                _ = tokio::task::spawn_blocking(last) => true,
                _ = signals.next() => false,
            }
        });
        if !done {
            impatient();
        }
        std::process::exit(128 + number)
    })?;
    Ok(())
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// The number of the next one.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt().as_raw_value(),
            _ = self.terminate.recv() => SignalKind::terminate().as_raw_value(),
        }
    }
}
