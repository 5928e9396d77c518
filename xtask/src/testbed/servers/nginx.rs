//! nginx that answers with the name of its host.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::testbed::{Host, Process, wait_for};

/// Bytes of the longest transfer.
pub const HUGE: usize = 11 << 20;

/// On port 80 of every address of its host: `/` answers the name, `/healthz` `ok`, `/large` 200,000 bytes, `/huge`
/// [`HUGE`] bytes; `/upload` answers the name after it has taken all that was posted, at most [`HUGE`] bytes.
#[derive(Debug)]
pub struct Nginx {
    host: Host,
    process: Process,
}

impl Nginx {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(host: &Host) -> Result<Self> {
        let folder = host.folder().join("nginx");
        fs::create_dir_all(&folder)?;
        for (name, length) in [("large", 200_000), ("huge", HUGE)] {
            fs::write(folder.join(name), vec![b'x'; length])?;
        }
        let configuration = folder.join("nginx.conf");
        let text = CONFIGURATION.replace("NAME", host.name()).replace("FOLDER", &folder.to_string_lossy());
        fs::write(&configuration, text).context("cannot write nginx.conf")?;
        let mut command = host.command("nginx");
        command.arg("-e").arg("stderr").arg("-p").arg(&folder).arg("-c").arg(&configuration);
        let mut process = host.spawn("nginx", &mut command)?;
        wait_for("nginx to listen", Duration::from_secs(20), || {
            process.still_runs()?;
            listens(host, 80)
        })?;
        Ok(Self { host: host.clone(), process })
    }

    /// `kill -9`: the kernel closes its connections and refuses new ones.
    ///
    /// # Errors
    /// It has ended before.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        let host = &self.host;
        wait_for("nginx to be gone", Duration::from_secs(20), || {
            Ok(listens(host, 80)?.is_none().then_some(()))
        })
    }
}

pub(super) fn listens(host: &Host, port: u16) -> Result<Option<()>> {
    let sockets = host.run(["ss", "--no-header", "--numeric", "--listening", "--tcp"])?;
    let end = format!(":{port}");
    Ok(sockets.split_whitespace().any(|word| word.ends_with(&end)).then_some(()))
}

/// One process, so that killing it ends all of it. Connections are kept for as long as the client wants: a test
/// decides when one ends.
const CONFIGURATION: &str = r#"
user root;
daemon off;
master_process off;
pid nginx.pid;
events { worker_connections 4096; }
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    send_timeout 1h;
    server {
        listen 80 default_server backlog=4096;
        listen [::]:80 default_server backlog=4096;
        default_type text/plain;
        location = / { return 200 "NAME\n"; }
        location = /healthz { return 200 "ok\n"; }
        location = /large { root FOLDER; }
        location = /huge { root FOLDER; }
        # `return` would answer before the body is there; a proxy reads it first.
        location = /upload {
            client_max_body_size 11m;
            client_body_buffer_size 1m;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_method GET;
            proxy_pass http://127.0.0.1:8081/;
        }
    }
    server {
        listen 127.0.0.1:8081;
        default_type text/plain;
        location = / { return 200 "NAME\n"; }
    }
}
"#;
