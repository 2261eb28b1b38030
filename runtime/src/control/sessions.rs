//! Where clients get sessions: a `SOCK_SEQPACKET` Unix socket. One connection is one session, and lives as long.
//!
//! A client sends one [`SessionRequest`], and nothing more; the answer is a [`SessionOffer`], or why there is none, and then
//! [news](crate::supervisor::sessions::SessionNews) of the places that run, and of those that come and go while the session lasts. A connection that becomes readable
//! here again has ended, its client is gone or hostile, and the session's memory is freed.

use super::directory::Address;
use crate::channel::{self, AsyncChannel, ChannelError};
use crate::supervisor::Supervisor;
use crate::supervisor::error::{Code, ControlError};
use crate::supervisor::sessions::{OpenedSession, SessionOffer, SessionRequest, Telling, Told};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;

/// Connections at a time, with a session or still without; more wait.
const CONNECTIONS_MAX: usize = 1024;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// How long a connection may take to say what it wants.
const REQUEST_MAX: Duration = Duration::from_secs(5);

/// The socket that hands out sessions.
pub(crate) struct Listener {
    socket: UnixListener,
}

impl Listener {
    /// Listens at a path that does not exist yet.
    pub(crate) fn bind(path: &Path) -> Result<Listener, ControlError> {
        let listen = || -> io::Result<UnixListener> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
            rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
            rustix::net::listen(&socket, BACKLOG)?;
            UnixListener::from_std(socket.into())
        };
        Ok(Listener { socket: listen().map_err(|error| ControlError::io(format!("listening at {}", path.display()), &error))? })
    }

    /// Hands out sessions until it is cancelled.
    pub(crate) async fn serve(self, supervisor: Arc<Supervisor>) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
            match self.accept().await {
                Ok(connection) => {
                    let supervisor = supervisor.clone();
                    tokio::spawn(async move {
                        // A connection that fails is closed; nobody else needs to know.
                        let _ = serve_connection(&supervisor, connection).await;
                        drop(permit);
                    });
                }
                // The kernel refuses when descriptors are short: some are given back when sessions end.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn accept(&self) -> io::Result<AsyncChannel> {
        let (connection, _) = self.socket.accept().await?;
        AsyncChannel::new(connection.into_std()?.into())
    }
}

async fn serve_connection(supervisor: &Arc<Supervisor>, connection: AsyncChannel) -> Result<(), ChannelError> {
    let tenant = connection.peer()?;
    let request = match tokio::time::timeout(REQUEST_MAX, connection.receive::<SessionRequest>()).await {
        Ok(Ok((request, _))) => request,
        Ok(Err(ChannelError::Malformed(what))) => {
            return refuse(&connection, ControlError::new(Code::BadRequest, format!("a session request was expected: {what}")))
                .await;
        }
        Ok(Err(error)) => return Err(error),
        Err(_) => return refuse(&connection, ControlError::new(Code::TimedOut, "no session request came")).await,
    };
    match supervisor.open_session(tenant, &request).await {
        Err(error) => refuse(&connection, error).await,
        Ok(session) => {
            let number = session.offer.number;
            let ended = serve_session(&connection, session).await;
            supervisor.close_session(number).await;
            ended
        }
    }
}

/// Tells a client what there is to tell, until it is gone, or the session has ended here.
async fn serve_session(connection: &AsyncChannel, session: OpenedSession) -> Result<(), ChannelError> {
    let OpenedSession { offer, flows, telling } = session;
    let offer: Result<SessionOffer, ControlError> = Ok(offer);
    connection.send(&offer, &[flows.as_fd()]).await?;
    drop(flows);
    tell(connection, telling).await
}

/// Tells a client news. What it does not take in time ends the session, and is waited for no longer than that.
async fn tell(connection: &AsyncChannel, telling: Telling) -> Result<(), ChannelError> {
    let Telling { mut news, mut ended } = telling;
    loop {
        tokio::select! {
            // Hangup, or a packet that nobody may send.
            () = connection.readable() => return Ok(()),
            told = news.recv() => {
                let Some(Told { news, descriptors }) = told else { return Ok(()) };
                // From here on the client alone holds its ends: the executors see when they close.
                let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
                tokio::select! {
                    sent = connection.send(&news, &descriptors) => sent?,
                    // Else whoever never reads would keep its executors, and whom to recover from would never be known.
                    _ = &mut ended => return Ok(()),
                }
            }
        }
    }
}

async fn refuse(connection: &AsyncChannel, error: ControlError) -> Result<(), ChannelError> {
    let refused: Result<SessionOffer, ControlError> = Err(error);
    connection.send(&refused, &[]).await
}

/// Asks the cluster at `address` for a session. The connection must stay open for as long as the session is used, and brings its news.
pub(crate) fn open(address: &Address, request: &SessionRequest) -> Result<(SessionOffer, OwnedFd, OwnedFd), ControlError> {
    address.check()?;
    let path = address.session_socket();
    let failed = |error: io::Error| ControlError::io(format!("connecting to {}", path.display()), &error);
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let socket = socket.map_err(|errno| failed(errno.into()))?;
    let name = SocketAddrUnix::new(&path).map_err(|errno| failed(errno.into()))?;
    match rustix::net::connect(&socket, &name) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::CONNREFUSED) => return Err(address.not_running()),
        result => result.map_err(|errno| failed(errno.into()))?,
    }
    let broken = |error: ChannelError| ControlError::new(Code::Protocol, format!("opening a session: {error}"));
    channel::send(&socket, request, &[]).map_err(broken)?;
    let (offer, descriptors): (Result<SessionOffer, ControlError>, _) = channel::receive(&socket).map_err(broken)?;
    let offer = offer?;
    let Ok([flows]) = <[OwnedFd; 1]>::try_from(descriptors) else {
        return Err(ControlError::new(Code::Protocol, "a session without a flow table"));
    };
    Ok((offer, flows, socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Place;
    use crate::supervisor::sessions::{Became, OpenSession, SessionNews, Teller, VERSION};
    use crate::transport::shared_memory::RingSizes;

    /// A client that never reads keeps its session until the news that wait for it are too many, and nobody any longer.
    #[test]
    fn a_client_that_never_reads_holds_up_nobody() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (ours, _theirs) = channel::pair().unwrap();
            let rings = RingSizes { request_bytes: 128, reply_bytes: 128 };
            let request = SessionRequest { version: VERSION, slots: 1, rings, numbered: false };
            let (session, telling) = OpenSession::create(1, &request, 0).unwrap();
            let connection = AsyncChannel::new(ours).unwrap();
            let serving = tokio::spawn(async move { tell(&connection, telling).await });
            let executors: Vec<u16> = (0..64).collect();
            let news = SessionNews { changes: 1, place: Place::Host, executors, what: Became::Gone };
            let Teller { news: sender, open } = session.teller.unwrap();
            while sender.try_send(Told { news: news.clone(), descriptors: Vec::new() }).is_ok() {
                tokio::task::yield_now().await;
            }
            drop((sender, open));
            serving.await.unwrap().unwrap();
        });
    }
}
