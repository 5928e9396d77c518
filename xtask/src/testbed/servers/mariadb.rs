//! MariaDB with one user that may come from anywhere.

use std::fs;
use std::time::Duration;

use anyhow::Result;

use super::nginx::listens;
use crate::shell::capture;
use crate::testbed::{Host, Process, wait_for};

pub const USER: &str = "shop";
pub const PASSWORD: &str = "shop";

/// On port 3306 of every address of its host. `SELECT @@hostname` would give the machine's name; each server's own
/// is in `SELECT name FROM shop.server`.
#[derive(Debug)]
pub struct MariaDb {
    pub process: Process,
}

impl MariaDb {
    /// Makes an empty database and starts the server: several seconds.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(host: &Host) -> Result<Self> {
        let data = host.folder().join("mariadb");
        let users = host.folder().join("init.sql");
        fs::write(
            &users,
            format!(
                "CREATE DATABASE shop;\n\
                 CREATE TABLE shop.server (name VARCHAR(64));\n\
                 INSERT INTO shop.server VALUES ('{}');\n\
                 CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';\n\
                 GRANT ALL ON shop.* TO '{USER}'@'%';\n",
                host.name()
            ),
        )?;
        let data_option = format!("--datadir={}", data.display());
        capture(
            host.command("mariadb-install-db")
                .args([
                    "--no-defaults",
                    "--user=root",
                    "--skip-test-db",
                    "--auth-root-authentication-method=normal",
                ])
                .arg(&data_option),
        )?;
        let mut command = host.command("mariadbd");
        command
            .args(["--no-defaults", "--user=root", "--port=3306", "--bind-address=*"])
            .args(["--skip-name-resolve", "--skip-log-bin", "--innodb-flush-log-at-trx-commit=0"])
            .args(["--innodb-buffer-pool-size=16M", "--max-connections=500"])
            .arg(&data_option)
            .arg(format!("--init-file={}", users.display()))
            .arg(format!("--socket={}", host.folder().join("mariadb.sock").display()))
            .arg(format!("--pid-file={}", host.folder().join("mariadb.pid").display()));
        let mut process = host.spawn("mariadb", &mut command)?;
        wait_for("MariaDB to listen", Duration::from_secs(60), || {
            process.still_runs()?;
            listens(host, 3306)
        })?;
        Ok(Self { process })
    }
}
