//! The wish to stop, from SIGTERM or SIGINT to a flag that every thread looks at.

use crate::telemetry::Flag;
use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::sync::Arc;

/// Raises the returned flag at the first SIGTERM or SIGINT. A second one ends the process as if
/// nobody listened, for the person who cannot wait.
pub(super) fn on_signal() -> Result<Arc<Flag>> {
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("listen for signals")?;
    let stop = Arc::new(Flag::default());
    let raised = Arc::clone(&stop);
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                if raised.is_raised() {
                    // It cannot fail for a signal that was just received.
                    drop(signal_hook::low_level::emulate_default_handler(signal));
                }
                raised.raise();
            }
        })
        .context("start the signal thread")?;
    Ok(stop)
}
