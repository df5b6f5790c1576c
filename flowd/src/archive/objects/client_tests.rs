//! What a client makes of servers that refuse, break off or know nothing of a bucket.

use super::*;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::thread;

/// What a server does with a request: an answer, or none, which ends the connection.
type Answer = fn(request: &str) -> Option<String>;

/// A server that answers each connection once; its threads end with the process.
fn client(answer: Answer) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for connection in listener.incoming() {
            serve(connection.unwrap(), answer);
        }
    });
    let builder = AmazonS3Builder::new()
        .with_endpoint(format!("http://{address}"))
        .with_region("us-east-1")
        .with_access_key_id("who")
        .with_secret_access_key("knows");
    let store = in_bucket(builder, "flows", options().with_allow_http(true)).build().unwrap();
    Client::of_store("s3://flows/x", Arc::new(store), "x").unwrap()
}

fn serve(mut connection: TcpStream, answer: Answer) {
    let mut head = Vec::new();
    let mut octet = [0];
    while !head.ends_with(b"\r\n\r\n") && connection.read(&mut octet).is_ok_and(|size| size == 1) {
        head.extend(octet);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let size = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let Some(answer) = answer(&head) else { return };
    let mut body = (&mut connection).take(size.map_or(0, |size| size.parse().unwrap()));
    drop(std::io::copy(&mut body, &mut std::io::sink()));
    drop(connection.write_all(answer.as_bytes()));
}

fn reply(status: &str, body: &str) -> Option<String> {
    let size = body.len();
    Some(format!("HTTP/1.1 {status}\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n{body}"))
}

fn fault(status: &str, code: &str) -> Option<String> {
    reply(status, &format!("<Error><Code>{code}</Code><Message>no</Message></Error>"))
}

/// A file of more than two parts.
fn file(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("segment");
    let octets: Vec<u8> = (0..2 * PART_SIZE + 77).map(|at| (at % 251) as u8).collect();
    fs::write(&path, octets).unwrap();
    path
}

/// The one line of an error.
fn line(error: &ArchiveError) -> String {
    let line = error.to_string();
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

#[test]
fn a_file_of_several_parts_is_one_object() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path());
    let url = format!("file://{}", folder.path().join("there").display());
    let client = Client::make(&url).unwrap();
    for whole in [false, true] {
        if whole {
            // As many octets as parts hold: nothing is left for the last one.
            File::options().write(true).open(&path).unwrap().set_len(PART_SIZE as u64).unwrap();
        }
        client.put_file("a/b", &path).unwrap();
        let octets = fs::read(&path).unwrap();
        assert_eq!(client.size("a/b").unwrap(), octets.len() as u64);
        assert!(client.get("a/b").unwrap() == octets);
    }
}

#[test]
fn a_server_that_breaks_off_between_parts_is_told_by_the_object() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path());
    let client = client(|request| match request {
        begun if begun.starts_with("post") && begun.contains("?uploads") => {
            let begun = "<InitiateMultipartUploadResult><UploadId>7</UploadId>";
            reply("200 OK", &format!("{begun}</InitiateMultipartUploadResult>"))
        }
        _ => None,
    });
    let error = client.put_file("a/b", &path).unwrap_err();
    assert!(error.is_refusal(), "{error}");
    let line = line(&error);
    assert!(line.starts_with("cannot write s3://flows/x/a/b: "), "{line}");
    assert!(line.contains("AWS_ENDPOINT"), "{line}");
}

#[test]
fn a_bucket_that_is_missing_is_no_missing_object() {
    let none = client(|_| fault("404 Not Found", "NoSuchBucket"));
    let error = none.get("a").unwrap_err();
    assert!(error.is_refusal() && line(&error).contains("there is no such bucket"), "{error}");
    let empty = client(|_| fault("404 Not Found", "NoSuchKey"));
    let error = empty.get("a").unwrap_err();
    assert!(error.is_not_found() && line(&error).contains("there is no such object"), "{error}");
}

#[test]
fn wrong_keys_are_told_as_such_and_not_tried_again() {
    let client = client(|_| fault("403 Forbidden", "SignatureDoesNotMatch"));
    let error = client.get("a").unwrap_err();
    assert!(error.is_refusal(), "{error}");
    let line = line(&error);
    assert!(line.contains("access is denied") && line.contains("AWS_SECRET_ACCESS_KEY"), "{line}");
}

#[test]
fn a_directory_that_is_not_there_is_not_made_to_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let there = folder.path().join("there");
    let error = Client::open(&format!("file://{}", there.display())).unwrap_err();
    let line = line(&error);
    assert!(line.contains("no such directory") && line.contains("mounted"), "{line}");
    assert!(!line.contains("AWS") && error.is_not_found() && !there.exists(), "{line}");
}
