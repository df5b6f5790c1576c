//! Client: asks an object store, and waits for its answer no longer than is named here.

use super::super::error::ArchiveError;
use super::ObjectFault;
use bytes::Bytes;
use object_store::aws::{AmazonS3Builder, Checksum};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, ClientOptions, Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload,
    RetryConfig,
};
use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long a request may take, body included.
const REQUEST_MAX: Duration = Duration::from_secs(60);
/// How often a request is made again that failed without being refused.
const RETRIES_MAX: usize = 3;
/// For how long.
const RETRY_MAX: Duration = Duration::from_secs(20);
/// Octets of a file that are sent at once: the least that S3 takes as a part of an object.
const PART_SIZE: usize = 5 << 20;
/// Characters of an object store's own words that are repeated.
const WORDS_MAX: usize = 240;

/// Whoever asks for objects under a URL.
#[derive(Debug)]
pub(super) struct Client {
    url: String,
    store: Arc<dyn ObjectStore>,
    prefix: String,
    runtime: Runtime,
}

impl Client {
    /// For a place that is used the first time: a directory is made.
    pub(super) fn make(url: &str) -> Result<Self, ArchiveError> {
        if let Some(directory) = url.strip_prefix("file://").filter(|path| path.starts_with('/')) {
            let directory = Path::new(directory);
            fs::create_dir_all(directory).map_err(ArchiveError::io("make", directory))?;
        }
        Self::open(url)
    }

    pub(super) fn open(url: &str) -> Result<Self, ArchiveError> {
        let wrong = |what: String| ArchiveError::ObjectUrl { url: url.to_owned(), what };
        let expected = || wrong("write s3://BUCKET/PREFIX or file:///DIRECTORY".to_owned());
        let (scheme, rest) = url.split_once("://").ok_or_else(expected)?;
        let (store, prefix): (Arc<dyn ObjectStore>, &str) = match scheme {
            "s3" => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() || bucket.contains(['@', '?', '#', ':']) {
                    return Err(expected());
                }
                let store = in_bucket(AmazonS3Builder::from_env(), bucket, options()).build();
                (Arc::new(store.map_err(|error| wrong(words(&error)))?), prefix)
            }
            "file" if rest.starts_with('/') => {
                if !Path::new(rest).is_dir() {
                    return Err(ArchiveError::Object {
                        doing: "open",
                        url: url.to_owned(),
                        fault: ObjectFault::Missing,
                        what: "there is no such directory".to_owned(),
                    });
                }
                let store = LocalFileSystem::new_with_prefix(rest);
                let store = store.map_err(|error| wrong(words(&error)))?;
                (Arc::new(store.with_fsync(true)), "")
            }
            _ => return Err(expected()),
        };
        Self::of_store(url, store, prefix)
    }

    fn of_store(
        url: &str,
        store: Arc<dyn ObjectStore>,
        prefix: &str,
    ) -> Result<Self, ArchiveError> {
        let wrong = |what: String| ArchiveError::ObjectUrl { url: url.to_owned(), what };
        Key::parse(prefix).map_err(|error| wrong(words(&error)))?;
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| wrong(error.to_string()))?;
        let prefix = prefix.trim_matches('/').to_owned();
        Ok(Self { url: url.trim_end_matches('/').to_owned(), store, prefix, runtime })
    }

    /// Why a place is not taken that is another's.
    pub(super) fn foreign(&self) -> ArchiveError {
        self.refused("it has the segments of another store: choose another prefix")
    }

    /// Why a place is not written to that does not know this store.
    pub(super) fn unmarked(&self) -> ArchiveError {
        self.refused("it is not, or no longer, the archive of this store: is it mounted?")
    }

    fn refused(&self, what: &str) -> ArchiveError {
        ArchiveError::ObjectUrl { url: self.url.clone(), what: what.to_owned() }
    }

    /// A whole object, which is small.
    pub(super) fn get(&self, key: &str) -> Result<Bytes, ArchiveError> {
        let location = self.location(key)?;
        let got = self.runtime.block_on(async { self.store.get(&location).await?.bytes().await });
        got.map_err(|error| self.error("read", key, &error))
    }

    /// Makes an object that is not there yet. If it is, it stays as it is.
    pub(super) fn create(&self, key: &str, octets: Vec<u8>) -> Result<(), ArchiveError> {
        let location = self.location(key)?;
        let mode = PutMode::Create.into();
        let put = self.store.put_opts(&location, PutPayload::from(octets), mode);
        match self.runtime.block_on(put) {
            Ok(_) | Err(Error::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(self.error("write", key, &error)),
        }
    }

    /// Makes an object of a file, or replaces it.
    pub(super) fn put_file(&self, key: &str, path: &Path) -> Result<(), ArchiveError> {
        let location = self.location(key)?;
        let failed = |error: &Error| self.error("write", key, error);
        let mut file = File::open(path).map_err(ArchiveError::io("open", path))?;
        let mut part = |octets: &mut Vec<u8>| {
            octets.clear();
            let read = (&mut file).take(PART_SIZE as u64).read_to_end(octets);
            read.map_err(ArchiveError::io("read", path))
        };
        let mut octets = Vec::new();
        if part(&mut octets)? < PART_SIZE {
            let put = self.store.put(&location, PutPayload::from(octets));
            return self.runtime.block_on(put).map(drop).map_err(|error| failed(&error));
        }
        let upload = self.runtime.block_on(self.store.put_multipart(&location));
        let mut upload = upload.map_err(|error| failed(&error))?;
        loop {
            let payload = PutPayload::from(std::mem::take(&mut octets));
            let sent = self.runtime.block_on(upload.put_part(payload));
            let sent = sent.map_err(|error| failed(&error));
            if let Err(error) = sent.and_then(|()| part(&mut octets)) {
                // Where even that fails, the store's own rule for unfinished uploads must do.
                drop(self.runtime.block_on(upload.abort()));
                return Err(error);
            }
            if octets.is_empty() {
                break;
            }
        }
        self.runtime.block_on(upload.complete()).map(drop).map_err(|error| failed(&error))
    }

    pub(super) fn size(&self, key: &str) -> Result<u64, ArchiveError> {
        let location = self.location(key)?;
        let head = self.runtime.block_on(self.store.head(&location));
        head.map(|object| object.size).map_err(|error| self.error("look at", key, &error))
    }

    /// Parts of an object; those that lie near each other are asked for as one.
    pub(super) fn ranges(
        &self,
        key: &str,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>, ArchiveError> {
        let location = self.location(key)?;
        let got = self.runtime.block_on(self.store.get_ranges(&location, ranges));
        got.map_err(|error| self.error("read", key, &error))
    }

    /// Removes an object, if it is there.
    pub(super) fn remove(&self, key: &str) -> Result<(), ArchiveError> {
        let location = self.location(key)?;
        match self.runtime.block_on(self.store.delete(&location)) {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.error("remove", key, &error)),
        }
    }

    fn location(&self, key: &str) -> Result<Key, ArchiveError> {
        let whole = format!("{}/{key}", self.prefix);
        Key::parse(whole.trim_start_matches('/')).map_err(|error| self.refused(&words(&error)))
    }

    fn error(&self, doing: &'static str, key: &str, error: &Error) -> ArchiveError {
        let said = words(error);
        // S3 answers for a bucket that is not there as it does for an object.
        let has_bucket = !said.contains("NoSuchBucket");
        let (fault, what) = match error {
            Error::NotFound { .. } if has_bucket => {
                (ObjectFault::Missing, "there is no such object".to_owned())
            }
            Error::NotFound { .. } => (ObjectFault::Refused, "there is no such bucket".to_owned()),
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                (ObjectFault::Refused, format!("access is denied ({said})"))
            }
            _ => (ObjectFault::Refused, said),
        };
        ArchiveError::Object { doing, url: format!("{}/{key}", self.url), fault, what }
    }
}

/// A bucket, with the limits of this module.
fn in_bucket(builder: AmazonS3Builder, bucket: &str, options: ClientOptions) -> AmazonS3Builder {
    let retry = RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: RETRIES_MAX,
        retry_timeout: RETRY_MAX,
    };
    builder
        .with_bucket_name(bucket)
        .with_checksum_algorithm(Checksum::SHA256)
        .with_retry(retry)
        .with_client_options(options)
}

fn options() -> ClientOptions {
    let mut options = ClientOptions::new();
    // What the environment says of HTTP itself, as whoever sets AWS_ENDPOINT for it expects.
    if std::env::var("AWS_ALLOW_HTTP").is_ok_and(|value| value == "true" || value == "1") {
        options = options.with_allow_http(true);
    }
    options.with_connect_timeout(CONNECT_MAX).with_timeout(REQUEST_MAX)
}

/// What an object store said, in one line: the innermost reason, for all around it repeats it.
fn words(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    let line: Vec<&str> = text.split_whitespace().collect();
    line.join(" ").chars().take(WORDS_MAX).collect()
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
