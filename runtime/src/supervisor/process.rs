//! The process of a place, from its supervisor's side: started, ordered, and reaped by its pidfd.

use super::error::{Code, ControlError};
use super::protocol::{Answer, Numbered, Order, Reply};
use crate::channel::{self, AsyncChannel, ChannelError};
use crate::message::Place;
use std::collections::HashMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

/// The names under which a program finds itself to be a place.
const NAMES: [(Place, &str); 2] = [(Place::Host, "naam-host"), (Place::Nic, "naam-nic")];
/// How long a place may take to end when it is told to, before it is killed.
const STOPPING_MAX: Duration = Duration::from_secs(2);

type Answered = Result<(Answer, Vec<OwnedFd>), ControlError>;

/// The place that a process of this name is.
pub fn place_of(name: &str) -> Option<Place> {
    NAMES.iter().find(|(_, process)| *process == name).map(|(place, _)| *place)
}

/// The process of a place, as long as it runs.
pub struct PlaceProcess {
    place: Place,
    process: u32,
    channel: AsyncChannel,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    answers: HashMap<u64, oneshot::Sender<Answered>>,
    /// Set when the place is gone: nothing is waited for any more.
    gone: bool,
}

/// The right to learn how a place ends. Dropping it kills the place.
pub struct PlaceEnd {
    place: Arc<PlaceProcess>,
    child: Child,
}

impl PlaceProcess {
    /// Executes this program again as a place of `cluster`. It leads a process group of its own, so that a terminal's signals reach
    /// only who is in charge. Must be called on the event loop that then hears its answers.
    pub fn start(place: Place, cluster: &str) -> Result<(Arc<PlaceProcess>, PlaceEnd), ControlError> {
        let failed = |error: io::Error| ControlError::io(format!("starting the {place} place"), &error);
        let name = NAMES.iter().find(|(named, _)| *named == place).map(|(_, name)| *name);
        let name = name.ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        let (ours, theirs) = channel::pair().map_err(failed)?;
        let child = Command::new("/proc/self/exe")
            .arg0(name)
            .arg(cluster)
            .stdin(theirs)
            .stdout(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let place = Arc::new(PlaceProcess {
            place,
            process: child.id().unwrap_or_default(),
            channel: AsyncChannel::new(ours).map_err(failed)?,
            waiting: Mutex::new(Waiting::default()),
        });
        let hearing = place.clone();
        tokio::spawn(async move { hearing.receive_answers().await });
        Ok((place.clone(), PlaceEnd { place, child }))
    }

    /// Whether nothing is heard from it any more.
    pub fn is_gone(&self) -> bool {
        self.waiting().gone
    }

    /// Its process id.
    pub fn process(&self) -> u32 {
        self.process
    }

    /// Sends an order and waits for its answer.
    pub async fn order(&self, order: Order, descriptors: &[BorrowedFd<'_>]) -> Answered {
        let (sender, receiver) = oneshot::channel();
        let number = {
            let mut waiting = self.waiting();
            if waiting.gone {
                return Err(self.gone());
            }
            waiting.next += 1;
            let number = waiting.next;
            waiting.answers.insert(number, sender);
            number
        };
        let sent = self.channel.send(&Numbered { number, content: order }, descriptors).await;
        if let Err(error) = sent {
            let mut waiting = self.waiting();
            waiting.answers.remove(&number);
            waiting.gone |= !matches!(error, ChannelError::Malformed(_));
            drop(waiting);
            return Err(match error {
                ChannelError::Malformed(why) => {
                    ControlError::new(Code::BadRequest, format!("the request does not fit an order to a place: {why}"))
                        .hint("set fewer or shorter constants")
                }
                error => ControlError::new(Code::PlaceFailed, format!("the {} place does not take orders: {error}", self.place)),
            });
        }
        receiver.await.unwrap_or_else(|_| Err(self.gone()))
    }

    /// Hands answers to those who wait for them, until the place closes its channel.
    async fn receive_answers(&self) {
        while let Ok((reply, descriptors)) = self.channel.receive::<Reply>().await {
            let waiting = self.waiting().answers.remove(&reply.number);
            if let Some(sender) = waiting {
                // Whoever asked may have stopped waiting.
                let _ = sender.send(reply.content.map(|answer| (answer, descriptors)));
            }
        }
        // A place that cannot be understood is of no more use than a dead one: hearing nothing more from here it ends, and is buried.
        self.channel.shut();
        let mut waiting = self.waiting();
        waiting.gone = true;
        waiting.answers.clear();
    }

    fn gone(&self) -> ControlError {
        ControlError::new(Code::PlaceFailed, format!("the {} place died meanwhile", self.place))
            .hint("it is started again: try once more; the terminal where the cluster runs says how it died")
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nothing panics while it holds this lock")
    }
}

impl PlaceEnd {
    /// Waits until the process has ended and is reaped, by its pidfd: from then on nothing of it runs.
    pub async fn reaped(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends the process: by its own will within [`STOPPING_MAX`], else by force.
    pub async fn stop(&mut self) {
        let ended_by_itself = async {
            let _ = self.place.channel.send(&Numbered { number: 0, content: Order::Stop }, &[]).await;
            self.child.wait().await
        };
        if tokio::time::timeout(STOPPING_MAX, ended_by_itself).await.is_err() {
            self.kill().await;
        }
    }

    /// Ends the process by force, and waits until it is reaped.
    pub async fn kill(&mut self) {
        let _ = self.child.kill().await;
    }
}

/// How a process ended, in words.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown cause".to_owned(),
    }
}
