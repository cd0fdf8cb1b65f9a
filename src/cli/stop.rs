//! Being told to stop. One thread listens, for as long as the process lasts: a signal that comes while one way of serving gives
//! way to another (sealed, waiting for administrators, whole) is not lost.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Whether a stop was asked for. Cheap to clone.
#[derive(Clone)]
pub struct Stop {
    asked: watch::Receiver<bool>,
}

impl Stop {
    /// Listens for SIGTERM and SIGINT from now on; until then they end the process at once.
    ///
    /// # Errors
    /// When signals can't be listened for.
    pub fn listen() -> std::io::Result<Stop> {
        let (tell, asked) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (mut terminate, mut interrupt) = {
            let _inside = runtime.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = terminate.recv() => {}
                        _ = interrupt.recv() => {}
                    }
                });
                let _ = tell.send(true);
            })?;
        Ok(Stop { asked })
    }

    /// Returns once a stop was asked for, also when that was before this call.
    pub async fn asked(mut self) {
        if self.asked.wait_for(|it| *it).await.is_err() {
            // The thread is gone without having been told anything.
            std::future::pending::<()>().await;
        }
    }
}
