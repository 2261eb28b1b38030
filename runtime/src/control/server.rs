//! Control's server: HTTP and JSON on a Unix socket, over the operations of the supervisor.
//!
//! Routes, bodies and codes are listed in `docs/formats/control.md`. Whatever a peer sends is bounded here: connections, their idle time,
//! bodies, and changes, which go on to their end whether or not the peer stays to hear of it; what it may do is the supervisor's decision,
//! from the user id that the kernel gives.

use crate::supervisor::Supervisor;
use crate::supervisor::api::{BundleUploaded, CreateRegion, Deploy, SetGrant, Steer};
use crate::supervisor::error::{Code, ControlError};
use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRef, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::serve::{IncomingStream, Listener};
use http_body_util::BodyExt;
use hyper::body::Frame;
use naamc::bundle::FILE_BYTES_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Bytes of a JSON body.
const JSON_BYTES_MAX: usize = 64 * 1024;
/// Connections that are served at a time; more wait.
const CONNECTIONS_MAX: usize = 64;
/// Changes under way at a time, those included whose connections have ended; more wait.
const CHANGES_MAX: usize = 64;
/// A connection on which nothing moves for this long is closed. Longer than anything that control waits for.
const CONNECTION_IDLE_MAX: Duration = Duration::from_secs(60);
/// Bytes of a region that are copied at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// The user at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    uid: u32,
}

/// Serves control until `stopped` resolves and the requests under way are answered.
pub async fn serve(
    listener: UnixListener,
    supervisor: Arc<Supervisor>,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = Bounded { listener, permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)) };
    let service = routes(supervisor).into_make_service_with_connect_info::<Peer>();
    axum::serve(listener, service).with_graceful_shutdown(stopped).await
}

fn routes(supervisor: Arc<Supervisor>) -> Router {
    let json = Router::new()
        .route("/v0/status", get(status))
        .route("/v0/stop", post(stop))
        .route("/v0/flows", get(flows).put(steer))
        .route("/v0/regions", get(list_regions))
        .route("/v0/regions/{name}", put(create_region).delete(remove_region))
        .route("/v0/deployments/{name}", get(describe_deployment).put(deploy).delete(undeploy))
        .route("/v0/deployments/{name}/bundle", get(deployed_bundle))
        .route("/v0/deployments/{name}/grants/{tenant}", put(grant).delete(revoke))
        .layer(DefaultBodyLimit::max(JSON_BYTES_MAX));
    let bundles = Router::new().route("/v0/bundles", post(upload_bundle)).layer(DefaultBodyLimit::max(FILE_BYTES_MAX));
    let contents =
        Router::new().route("/v0/regions/{name}/contents", get(save_region).put(load_region)).layer(DefaultBodyLimit::disable());
    json.merge(bundles)
        .merge(contents)
        .method_not_allowed_fallback(|request: Request| async move {
            refuse(ControlError::new(
                Code::MethodNotAllowed,
                format!("{} does not take {}", request.uri().path(), request.method()),
            ))
        })
        .fallback(|request: Request| async move {
            let shown: String = request.uri().path().chars().take(200).collect();
            refuse(
                ControlError::new(Code::NoSuchRoute, format!("there is no {shown}"))
                    .hint("docs/formats/control.md lists the routes"),
            )
        })
        .with_state(Service { supervisor, changes: Changes(Arc::new(Semaphore::new(CHANGES_MAX))) })
}

/// What routes work with.
#[derive(Clone)]
struct Service {
    supervisor: Arc<Supervisor>,
    changes: Changes,
}

impl FromRef<Service> for Arc<Supervisor> {
    fn from_ref(service: &Service) -> Arc<Supervisor> {
        service.supervisor.clone()
    }
}

impl FromRef<Service> for Changes {
    fn from_ref(service: &Service) -> Changes {
        service.changes.clone()
    }
}

/// The changes under way.
#[derive(Clone)]
struct Changes(Arc<Semaphore>);

impl Changes {
    /// Answers with what a change comes to. The change is a task of its own: a connection that ends drops its handler, and a change that
    /// is dropped in the middle leaves in the place what nobody has a record of.
    async fn carry_out<T: Serialize + Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, ControlError>> + Send + 'static,
    ) -> Response {
        let permit = self.0.clone().acquire_owned().await.expect("the semaphore is never closed");
        let task = tokio::spawn(async move {
            let _permit = permit;
            change.await
        });
        let lost = |error| ControlError::new(Code::System, format!("the change did not come to its end: {error}"));
        answer(task.await.unwrap_or_else(|error| Err(lost(error))))
    }
}

type Shared = State<Arc<Supervisor>>;
type From = ConnectInfo<Peer>;

async fn status(State(supervisor): Shared, ConnectInfo(peer): From) -> Response {
    answer(supervisor.status(peer.uid))
}

async fn stop(State(supervisor): Shared, ConnectInfo(peer): From) -> Response {
    answer(supervisor.stop(peer.uid))
}

async fn flows(State(supervisor): Shared, ConnectInfo(peer): From) -> Response {
    answer(supervisor.flows(peer.uid))
}

async fn steer(
    State(supervisor): Shared,
    State(changes): State<Changes>,
    ConnectInfo(peer): From,
    body: Incoming<Steer>,
) -> Response {
    match body.0 {
        Ok(request) => changes.carry_out(async move { supervisor.steer(peer.uid, &request).await }).await,
        Err(error) => refuse(error),
    }
}

async fn list_regions(State(supervisor): Shared, ConnectInfo(peer): From) -> Response {
    answer(supervisor.regions(peer.uid))
}

async fn create_region(
    State(supervisor): Shared,
    State(changes): State<Changes>,
    ConnectInfo(peer): From,
    Path(name): Path<String>,
    body: Incoming<CreateRegion>,
) -> Response {
    match body.0 {
        Ok(request) => changes.carry_out(async move { supervisor.create_region(peer.uid, &name, request).await }).await,
        Err(error) => refuse(error),
    }
}

async fn remove_region(
    State(supervisor): Shared,
    State(changes): State<Changes>,
    ConnectInfo(peer): From,
    Path(name): Path<String>,
) -> Response {
    changes.carry_out(async move { supervisor.remove_region(peer.uid, &name).await }).await
}

async fn save_region(State(supervisor): Shared, ConnectInfo(peer): From, Path(name): Path<String>) -> Response {
    match supervisor.region_contents(peer.uid, &name) {
        Err(error) => refuse(error),
        Ok(contents) => {
            let length_bytes = contents.length_bytes();
            let mut at = 0;
            let chunks = chunks(move || {
                let length = (length_bytes - at).min(CHUNK_BYTES as u64) as usize;
                let mut chunk = vec![0; length];
                contents.read(at, &mut chunk)?;
                at += length as u64;
                Ok(chunk)
            });
            ([(header::CONTENT_TYPE, "application/octet-stream"), (header::CONTENT_LENGTH, &length_bytes.to_string())], chunks)
                .into_response()
        }
    }
}

async fn load_region(State(supervisor): Shared, ConnectInfo(peer): From, Path(name): Path<String>, request: Request) -> Response {
    answer(load(&supervisor, peer, &name, request.into_body()).await)
}

async fn load(supervisor: &Supervisor, peer: Peer, name: &str, mut body: Body) -> Result<u64, ControlError> {
    let contents = supervisor.region_contents(peer.uid, name)?;
    let too_long = || {
        ControlError::new(Code::TooLarge, format!("region {name:?} has {} bytes; what was sent is longer", contents.length_bytes()))
            .hint("create a region that is long enough")
    };
    let announced = body.size_hint().lower();
    if announced > contents.length_bytes() {
        return Err(too_long());
    }
    let mut at = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ControlError::new(Code::Protocol, format!("the contents ended early: {error}")))?;
        if let Ok(chunk) = frame.into_data() {
            if chunk.len() as u64 > contents.length_bytes() - at {
                return Err(too_long());
            }
            contents.write(at, &chunk)?;
            at += chunk.len() as u64;
        }
    }
    Ok(at)
}

async fn upload_bundle(
    State(supervisor): Shared,
    ConnectInfo(peer): From,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Response {
    match body {
        Ok(bytes) => answer(supervisor.upload_bundle(peer.uid, &bytes).map(|file| BundleUploaded { file })),
        Err(rejection) => refuse(bad_body(rejection.status(), &rejection.body_text(), FILE_BYTES_MAX)),
    }
}

async fn deploy(
    State(supervisor): Shared,
    State(changes): State<Changes>,
    ConnectInfo(peer): From,
    Path(name): Path<String>,
    body: Incoming<Deploy>,
) -> Response {
    match body.0 {
        Ok(request) => changes.carry_out(async move { supervisor.deploy(peer.uid, &name, request).await }).await,
        Err(error) => refuse(error),
    }
}

async fn describe_deployment(State(supervisor): Shared, ConnectInfo(peer): From, Path(name): Path<String>) -> Response {
    answer(supervisor.deployment(peer.uid, &name))
}

async fn deployed_bundle(State(supervisor): Shared, ConnectInfo(peer): From, Path(name): Path<String>) -> Response {
    match supervisor.deployed_bundle(peer.uid, &name) {
        Ok(bytes) => ([(header::CONTENT_TYPE, "application/octet-stream")], Bytes::from_owner(bytes)).into_response(),
        Err(error) => refuse(error),
    }
}

async fn undeploy(
    State(supervisor): Shared,
    State(changes): State<Changes>,
    ConnectInfo(peer): From,
    Path(name): Path<String>,
) -> Response {
    changes.carry_out(async move { supervisor.undeploy(peer.uid, &name).await }).await
}

async fn grant(
    State(supervisor): Shared,
    State(changes): State<Changes>,
    ConnectInfo(peer): From,
    Path(path): Path<(String, String)>,
    body: Incoming<SetGrant>,
) -> Response {
    match body.0.and_then(|request| Ok((request, parse_tenant(&path.1)?))) {
        Ok((request, tenant)) => {
            changes.carry_out(async move { supervisor.grant(peer.uid, &path.0, tenant, Some(request.grant)).await }).await
        }
        Err(error) => refuse(error),
    }
}

async fn revoke(
    State(supervisor): Shared,
    State(changes): State<Changes>,
    ConnectInfo(peer): From,
    Path(path): Path<(String, String)>,
) -> Response {
    match parse_tenant(&path.1) {
        Ok(tenant) => changes.carry_out(async move { supervisor.grant(peer.uid, &path.0, tenant, None).await }).await,
        Err(error) => refuse(error),
    }
}

fn parse_tenant(text: &str) -> Result<u32, ControlError> {
    text.parse().map_err(|_| ControlError::new(Code::BadRequest, "a tenant is a user id").hint("`id -u NAME` prints it"))
}

fn answer<T: Serialize>(result: Result<T, ControlError>) -> Response {
    match result {
        Ok(value) => axum::Json(value).into_response(),
        Err(error) => refuse(error),
    }
}

fn refuse(error: ControlError) -> Response {
    let status = StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, axum::Json(error)).into_response()
}

fn bad_body(status: StatusCode, text: &str, bytes_max: usize) -> ControlError {
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        ControlError::new(Code::TooLarge, format!("the body is longer than the {bytes_max} bytes that this route takes"))
    } else {
        ControlError::new(Code::BadRequest, text)
    }
}

/// A JSON body, or why it is none.
struct Incoming<T>(Result<T, ControlError>);

impl<T: DeserializeOwned, S: Send + Sync> axum::extract::FromRequest<S> for Incoming<T> {
    type Rejection = std::convert::Infallible;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let parsed = match Bytes::from_request(request, state).await {
            Err(rejection) => Err(bad_body(rejection.status(), &rejection.body_text(), JSON_BYTES_MAX)),
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| ControlError::new(Code::BadRequest, format!("the body is not what this route takes: {error}"))),
        };
        Ok(Incoming(parsed))
    }
}

/// A body of chunks, each made when the one before it has gone out; an empty one ends it.
fn chunks(next: impl FnMut() -> Result<Vec<u8>, ControlError> + Send + Unpin + 'static) -> Body {
    struct Chunks<F>(F);
    impl<F: FnMut() -> Result<Vec<u8>, ControlError> + Unpin> HttpBody for Chunks<F> {
        type Data = Bytes;
        type Error = ControlError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ControlError>>> {
            Poll::Ready(match (self.0)() {
                Ok(chunk) if chunk.is_empty() => None,
                Ok(chunk) => Some(Ok(Frame::data(Bytes::from(chunk)))),
                Err(error) => Some(Err(error)),
            })
        }
    }
    Body::new(Chunks(next))
}

/// A listener that serves a bounded number of connections and knows their users.
struct Bounded {
    listener: UnixListener,
    permits: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = Peer;

    async fn accept(&mut self) -> (Connection, Peer) {
        loop {
            let permit = self.permits.clone().acquire_owned().await.expect("the semaphore is never closed");
            // The kernel refuses when descriptors are short: some are given back when connections end.
            let Ok((stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            if let Ok(credentials) = stream.peer_cred() {
                let idle = Box::pin(tokio::time::sleep(CONNECTION_IDLE_MAX));
                return (Connection { stream, idle, _permit: permit }, Peer { uid: credentials.uid() });
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer { uid: rustix::process::geteuid().as_raw() })
    }
}

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Peer {
        *stream.remote_addr()
    }
}

/// One connection: its permit, and a clock that runs while nothing moves.
struct Connection {
    stream: UnixStream,
    idle: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    fn watch<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.idle.as_mut().reset(Instant::now() + CONNECTION_IDLE_MAX);
            return polled;
        }
        self.idle.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.watch(context, polled)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
