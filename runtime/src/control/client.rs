//! Control from a program's side: one blocking call per operation.
//!
//! Each call is one connection; nothing is kept open between calls, and a cluster that restarts under the same name is simply found again.

use super::directory::Address;
use crate::supervisor::api::{BundleUploaded, CreateRegion, Deploy, Flows, SetGrant, Status, Steer};
use crate::supervisor::error::{Code, ControlError};
use crate::supervisor::name::check_name;
use crate::supervisor::records::{DeploymentRecord, Grant, RegionRecord};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;

/// Bytes of an answer that is not a region's contents.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Bytes of a region that are sent at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// How long a cluster that starts or ends may hold its directory without listening: places are given a second to end.
const UNREACHABLE_MAX: Duration = Duration::from_secs(2);
/// Time between two tries to connect.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);

/// A cluster's control.
#[derive(Clone, Debug)]
pub struct Control {
    address: Address,
}

impl Control {
    /// Control of the cluster at this address. Whether one runs there shows at the first call: every call may fail with
    /// [`Code::NoCluster`], whose hint says how to start it, or with [`Code::UnsafeDirectory`] if somebody else could have made the sockets.
    pub fn at(address: &Address) -> Control {
        Control { address: address.clone() }
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What runs, and how it is doing.
    pub fn status(&self) -> Result<Status, ControlError> {
        self.call(Method::GET, "/v0/status", empty())
    }

    /// Stops the cluster. Its supervisor answers before it goes.
    pub fn stop(&self) -> Result<(), ControlError> {
        self.call(Method::POST, "/v0/stop", empty())
    }

    /// All regions.
    pub fn regions(&self) -> Result<Vec<RegionRecord>, ControlError> {
        self.call(Method::GET, "/v0/regions", empty())
    }

    /// Creates a region of zeros.
    pub fn create_region(&self, name: &str, request: &CreateRegion) -> Result<RegionRecord, ControlError> {
        self.call(Method::PUT, &named("regions", name)?, json(request)?)
    }

    /// Removes a region that no deployment is bound to.
    pub fn remove_region(&self, name: &str) -> Result<(), ControlError> {
        self.call(Method::DELETE, &named("regions", name)?, empty())
    }

    /// Copies a region's bytes out, as they are while messages go on; returns their number.
    pub fn save_region(&self, name: &str, to: &mut dyn Write) -> Result<u64, ControlError> {
        self.run(async {
            let (status, mut body) = self.send(Method::GET, &format!("{}/contents", named("regions", name)?), empty()).await?;
            if status != StatusCode::OK {
                return Err(read_error(body).await);
            }
            let expected = body.size_hint().exact();
            let mut length_bytes = 0;
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| broken(&error))?;
                if let Ok(chunk) = frame.into_data() {
                    to.write_all(&chunk).map_err(|error| ControlError::io("writing the region's bytes", &error))?;
                    length_bytes += chunk.len() as u64;
                }
            }
            if expected.is_some_and(|expected| expected != length_bytes) {
                return Err(ControlError::new(Code::Protocol, format!("the cluster sent {length_bytes} of {expected:?} bytes")));
            }
            Ok(length_bytes)
        })
    }

    /// Copies `length_bytes` bytes to the region's beginning; the rest stays. Returns the number of bytes that went in.
    pub fn load_region(&self, name: &str, from: Box<dyn Read + Send>, length_bytes: u64) -> Result<u64, ControlError> {
        self.call(Method::PUT, &format!("{}/contents", named("regions", name)?), Sent::Contents { from, left: length_bytes })
    }

    /// Gives the cluster a bundle file, for [`Control::deploy`].
    pub fn upload_bundle(&self, bytes: &[u8]) -> Result<BundleUploaded, ControlError> {
        self.call(Method::POST, "/v0/bundles", Sent::Bytes(Full::new(Bytes::copy_from_slice(bytes))))
    }

    /// Runs a bundle under a name, bound to regions. The place that will run it checks it first.
    pub fn deploy(&self, name: &str, request: &Deploy) -> Result<DeploymentRecord, ControlError> {
        self.call(Method::PUT, &named("deployments", name)?, json(request)?)
    }

    /// One deployment.
    pub fn deployment(&self, name: &str) -> Result<DeploymentRecord, ControlError> {
        self.call(Method::GET, &named("deployments", name)?, empty())
    }

    /// The bundle that a deployment runs, with its constants as they were set.
    pub fn deployed_bundle(&self, name: &str) -> Result<Vec<u8>, ControlError> {
        self.run(async {
            let (status, body) = self.send(Method::GET, &format!("{}/bundle", named("deployments", name)?), empty()).await?;
            if status == StatusCode::OK { read(body).await } else { Err(read_error(body).await) }
        })
    }

    /// Takes no more requests for a deployment, waits for those under way, and removes it.
    pub fn undeploy(&self, name: &str) -> Result<(), ControlError> {
        self.call(Method::DELETE, &named("deployments", name)?, empty())
    }

    /// Lets a user send requests to a deployment, or takes that back.
    pub fn grant(&self, deployment: &str, tenant: u32, grant: Option<Grant>) -> Result<(), ControlError> {
        let path = format!("{}/grants/{tenant}", named("deployments", deployment)?);
        match grant {
            Some(grant) => self.call(Method::PUT, &path, json(&SetGrant { grant })?),
            None => self.call(Method::DELETE, &path, empty()),
        }
    }

    /// Where each flow goes.
    pub fn flows(&self) -> Result<Flows, ControlError> {
        self.call(Method::GET, "/v0/flows", empty())
    }

    /// Sends flows to a place from now on; what is under way follows if it can.
    pub fn steer(&self, request: &Steer) -> Result<Flows, ControlError> {
        self.call(Method::PUT, "/v0/flows", json(request)?)
    }

    fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: Sent) -> Result<T, ControlError> {
        self.run(async {
            let (status, answer) = self.send(method, path, body).await?;
            if status != StatusCode::OK {
                return Err(read_error(answer).await);
            }
            let bytes = read(answer).await?;
            serde_json::from_slice(&bytes)
                .map_err(|error| ControlError::new(Code::Protocol, format!("the cluster's answer is malformed: {error}")))
        })
    }

    async fn send(&self, method: Method, path: &str, body: Sent) -> Result<(StatusCode, Incoming), ControlError> {
        let stream = self.connect().await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, "naam")
            .body(body)
            .map_err(|error| ControlError::new(Code::BadRequest, error.to_string()))?;
        let (parts, body) = sender.send_request(request).await.map_err(|error| broken(&error))?.into_parts();
        Ok((parts.status, body))
    }

    /// Connects; waits a little for a cluster that holds its directory and does not listen, since it may be starting or ending.
    async fn connect(&self) -> Result<UnixStream, ControlError> {
        let socket = self.address.control_socket();
        let limit = Instant::now() + UNREACHABLE_MAX;
        loop {
            self.address.check()?;
            match UnixStream::connect(&socket).await {
                Ok(stream) => return Ok(stream),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {}
                Err(error) => return Err(ControlError::io(format!("connecting to {}", socket.display()), &error)),
            }
            match self.address.holder() {
                None => return Err(self.address.not_running()),
                Some(holder) if Instant::now() >= limit => return Err(self.address.unreachable(&holder)),
                Some(_) => tokio::time::sleep(CONNECT_PAUSE).await,
            }
        }
    }

    fn run<T>(&self, work: impl Future<Output = Result<T, ControlError>>) -> Result<T, ControlError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| ControlError::io("starting an event loop", &error))?;
        runtime.block_on(work)
    }
}

/// The path of what has this name among the `regions` or `deployments`. A name that nothing can have is refused here: it might be no path.
fn named(kind: &str, name: &str) -> Result<String, ControlError> {
    check_name(kind.trim_end_matches('s'), name)?;
    Ok(format!("/v0/{kind}/{name}"))
}

fn empty() -> Sent {
    Sent::Bytes(Full::default())
}

fn json(value: &impl Serialize) -> Result<Sent, ControlError> {
    let bytes = serde_json::to_vec(value).map_err(|error| ControlError::new(Code::BadRequest, error.to_string()))?;
    Ok(Sent::Bytes(Full::new(Bytes::from(bytes))))
}

async fn read(body: Incoming) -> Result<Vec<u8>, ControlError> {
    let collected = http_body_util::Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    Ok(collected
        .map_err(|error| ControlError::new(Code::Protocol, format!("reading the cluster's answer: {error}")))?
        .to_bytes()
        .to_vec())
}

async fn read_error(body: Incoming) -> ControlError {
    match read(body).await {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|_| {
            ControlError::new(Code::Protocol, format!("the cluster answered {:?}", String::from_utf8_lossy(&bytes)))
        }),
        Err(error) => error,
    }
}

fn broken(error: &hyper::Error) -> ControlError {
    if error.is_user() {
        let why = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
        return ControlError::new(Code::System, format!("reading what is sent: {why}"));
    }
    ControlError::new(Code::Protocol, format!("the cluster ended the connection: {error}"))
        .hint("it may have just stopped: look at the terminal where it ran")
}

/// A request's body.
enum Sent {
    Bytes(Full<Bytes>),
    Contents { from: Box<dyn Read + Send>, left: u64 },
}

impl Body for Sent {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut *self {
            Sent::Bytes(bytes) => Pin::new(bytes).poll_frame(context).map_err(|never| match never {}),
            Sent::Contents { left: 0, .. } => Poll::Ready(None),
            Sent::Contents { from, left } => {
                let mut chunk = vec![0; (*left).min(CHUNK_BYTES as u64) as usize];
                Poll::Ready(Some(from.read_exact(&mut chunk).map(|()| {
                    *left -= chunk.len() as u64;
                    Frame::data(Bytes::from(chunk))
                })))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Sent::Bytes(bytes) => bytes.size_hint(),
            Sent::Contents { left, .. } => SizeHint::with_exact(*left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nothing_can_be_named_is_no_path() {
        assert_eq!(named("regions", "plain-1.x_Y").unwrap(), "/v0/regions/plain-1.x_Y");
        for name in ["", "a/../b?c#d e\n\u{e4}"] {
            let error = named("deployments", name).unwrap_err();
            assert!(error.code == Code::BadRequest && error.message.ends_with("cannot name a deployment"), "{error}");
        }
    }

    /// Who reads from what ends too early has broken nothing at the cluster.
    #[test]
    fn a_source_that_ends_too_early_is_said_to_be_it() {
        let event_loop = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = event_loop.block_on(async {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(ours)).await.unwrap();
            tokio::spawn(connection);
            let body = Sent::Contents { from: Box::new(&b"short"[..]), left: 100 };
            let error = sender.send_request(Request::builder().uri("/").body(body).unwrap()).await.unwrap_err();
            drop(theirs);
            broken(&error)
        });
        assert!(error.message.starts_with("reading what is sent: "), "{error}");
    }
}
