use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::super::load;
use super::super::model::Authentication;
use super::{COMPLETE, host};

/// What is said about a file, without its name.
fn said(path: &Path) -> String {
    let mistakes = load(path, &host()).expect_err("the file has mistakes");
    assert_eq!(mistakes.count(), 1);
    let name = format!("{}:", path.display());
    mistakes.to_string().strip_prefix(&name).expect("the line begins with the file").to_owned()
}

fn file(contents: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), contents).unwrap();
    file
}

#[test]
fn a_file_is_read() {
    assert_eq!(load(file(COMPLETE.as_bytes()).path(), &host()).unwrap().node, "lb-a");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let missing = said(Path::new("/nonexistent/evenkeel.yaml"));
    assert!(missing.starts_with("1:1: there is no such file; name the one you have"), "{missing}");
    let plain = file(b"");
    let below = said(&plain.path().join("evenkeel.yaml"));
    assert!(below.starts_with("1:1: the file cannot be read: Not a directory"), "{below}");
    assert!(below.contains("; name a file that can"), "{below}");
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(said(directory.path()), "1:1: this is a directory; name the configuration file in it");
    let device = said(Path::new("/dev/zero"));
    assert!(device.starts_with("1:1: this is not a regular file"), "{device}");
}

#[test]
fn a_fifo_without_a_writer_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(said(&fifo).starts_with("1:1: this is not a regular file"));
}

#[test]
fn an_empty_file_says_what_belongs_in_it() {
    for empty in ["", "\n\n", "# only a comment\n", "---\n", "~\n"] {
        let said = said(file(empty.as_bytes()).path());
        assert!(said.starts_with("1:1: the file is empty; write at least"), "{said}");
    }
}

#[test]
fn text_that_is_not_utf8_is_shown_where_it_stops_being_text() {
    let said = said(file(b"node: a\nx: \xff\n").path());
    assert_eq!(said, "2:4: this is not UTF-8 text; save the configuration as UTF-8");
}

#[test]
fn a_file_beyond_a_mebibyte_is_refused_and_one_of_a_mebibyte_is_read() {
    let padded = |size: usize| {
        let mut text = COMPLETE.as_bytes().to_vec();
        text.resize(size, b'\n');
        file(&text)
    };
    assert!(load(padded(1 << 20).path(), &host()).is_ok());
    assert!(said(padded((1 << 20) + 1).path()).contains("larger than 1048576 bytes"));
}

#[test]
fn a_file_of_keys_is_its_owners_alone() {
    let keys = file(b"1 000102030405060708090a0b0c0d0e0f\n");
    let configuration = format!(
        "vrrp: [{{ name: v, interface: eth0, vrid: 1, addresses: [192.0.2.1], authentication: {{ keys: {} }} }}]\n",
        keys.path().display()
    );
    let configuration = file(configuration.as_bytes());
    let mode = |mode| fs::set_permissions(keys.path(), fs::Permissions::from_mode(mode)).unwrap();
    for open in [0o640, 0o604, 0o620, 0o777] {
        mode(open);
        let said = said(configuration.path());
        assert!(
            said.contains(&format!(
                "others than its owner may read or write the file (mode {open:03o}); `chmod 600`"
            )),
            "{said}"
        );
    }
    mode(0o600);
    let instance = load(configuration.path(), &host()).unwrap().vrrp.remove(0);
    assert!(
        matches!(instance.authentication, Some(Authentication::Keys { keys, required: true }) if keys.len() == 1)
    );
    fs::write(keys.path(), vec![b'#'; (1 << 16) + 1]).unwrap();
    assert!(said(configuration.path()).contains("the file is larger than 65536 bytes"));
}
