//! The steps. Each returns an error if it does not do what it shows.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::report::Shown;
use super::traffic::Traffic;
use crate::shell::tell;
use crate::status::{BackendState, InstanceState};
use crate::testbed::data_centre::{DataCentre, GATEWAY, NAT_ADDRESS, TUNNEL_ADDRESS};
use crate::testbed::servers::Nginx;

pub(super) struct Step {
    pub(super) title: &'static str,
    pub(super) take: fn(&mut DataCentre) -> Result<Shown>,
}

pub(super) const ALL: [Step; 4] = [
    Step { title: "1. traffic spreads over the backends", take: spread },
    Step { title: "2. nginx on web-1 is killed; the check takes it out", take: lose_a_backend },
    Step { title: "3. the YAML is edited under load: web-3 is added", take: add_a_backend },
    Step { title: "4. the master, lb-a, is killed with kill -9", take: lose_the_master },
];

const A_WHILE: Duration = Duration::from_secs(3);

fn spread(data_centre: &mut DataCentre) -> Result<Shown> {
    let seen = Traffic::calm(data_centre, A_WHILE)?;
    seen.web_is_spread_over(&["web-1", "web-2"])?;
    Ok(Shown { seen, outcome: "both web servers answer, no request failed".to_owned() })
}

fn lose_a_backend(data_centre: &mut DataCentre) -> Result<Shown> {
    let backend = DataCentre::web_backend(1);
    let traffic = Traffic::start(data_centre);
    thread::sleep(Duration::from_secs(1));
    let killed = Instant::now();
    data_centre.web[0].nginx.kill()?;
    data_centre.nodes[0].wait_until_backend(&backend, BackendState::Down)?;
    let noticed = killed.elapsed();
    data_centre.nodes[1].wait_until_backend(&backend, BackendState::Down)?;
    let seen = traffic.stop_after(Duration::from_secs(1))?;
    seen.answered()?;

    tell("    web-1 is out; checking that no request fails any more");
    let after = Traffic::calm(data_centre, Duration::from_secs(2))?;
    after.web_is_spread_over(&["web-2"])?;

    tell("    starting nginx on web-1 again");
    let web = &mut data_centre.web[0];
    web.nginx = Nginx::start(&web.host)?;
    for node in &mut data_centre.nodes {
        node.wait_until_backends_are_up()?;
    }
    let outcome = format!(
        "out {:.1} s after the kill, then {} requests to web-2 without a failure; back in since",
        noticed.as_secs_f64(),
        after.web.sent
    );
    Ok(Shown { seen, outcome })
}

fn add_a_backend(data_centre: &mut DataCentre) -> Result<Shown> {
    let traffic = Traffic::start(data_centre);
    thread::sleep(Duration::from_secs(1));
    data_centre.save_configuration(3)?;
    for node in &mut data_centre.nodes {
        node.wait_until_backend(&DataCentre::web_backend(3), BackendState::Up)?;
    }
    let seen = traffic.stop_after(A_WHILE)?;
    seen.nothing_failed()?;
    let answers = seen.web.answers.get("web-3").copied().context("web-3 gave no answer")?;

    tell("    web-3 is in; looking at the spread");
    let after = Traffic::calm(data_centre, Duration::from_secs(2))?;
    after.web_is_spread_over(&["web-1", "web-2", "web-3"])?;
    let outcome = format!(
        "no request failed; web-3 gave {answers} answers, and {:.0} % of those since",
        after.web.share("web-3") * 100.0
    );
    Ok(Shown { seen, outcome })
}

fn lose_the_master(data_centre: &mut DataCentre) -> Result<Shown> {
    let traffic = Traffic::start(data_centre);
    thread::sleep(Duration::from_secs(1));
    let [dead, heir] = &mut data_centre.nodes[..] else { anyhow::bail!("the demo has two nodes") };
    dead.kill_daemon()?;
    heir.wait_until_instances(InstanceState::Master)?;
    for address in [NAT_ADDRESS, TUNNEL_ADDRESS, GATEWAY] {
        let left = dead.host().has_address(&address.to_string())?;
        ensure!(!left, "{address} is still on lb-a, which is dead");
    }
    let seen = traffic.stop_after(Duration::from_secs(2))?;
    seen.answered()?;

    tell("    lb-b is master; checking that no request fails any more");
    let after = Traffic::calm(data_centre, Duration::from_secs(2))?;
    after.web_is_spread_over(&["web-1", "web-2", "web-3"])?;
    let sent: u64 = after.services().iter().map(|(_, report)| report.sent).sum();
    let outcome =
        format!("lb-b took over, no address is left on lb-a; {sent} requests since without a failure");
    Ok(Shown { seen, outcome })
}
