//! One task for all interfaces, one for all processes, and one for each script, file and gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::file::{self, Watch};
use super::{Reporter, gateway, interface, process, script};
use crate::config::model::Subject;

#[derive(Debug)]
pub(super) struct Drivers {
    report: Reporter,
    interfaces: watch::Sender<BTreeSet<String>>,
    processes: watch::Sender<BTreeSet<String>>,
    files: Arc<Watch>,
    single: BTreeMap<Subject, Task>,
    #[expect(dead_code, reason = "they run until they are dropped")]
    common: [Task; 2],
}

impl Drivers {
    pub(super) fn start(report: &Reporter) -> Self {
        let (interfaces, processes) = (watch::Sender::default(), watch::Sender::default());
        let common = [
            Task::start(interface::follow(interfaces.subscribe(), report.clone())),
            Task::start(process::follow(processes.subscribe(), report.clone())),
        ];
        let (report, files) = (report.clone(), Arc::new(Watch::new()));
        Self { report, interfaces, processes, files, single: BTreeMap::new(), common }
    }

    /// Starts what is new, ends what is gone, and leaves the rest alone.
    pub(super) fn apply(&mut self, subjects: BTreeSet<Subject>) {
        let (mut interfaces, mut processes) = (BTreeSet::new(), BTreeSet::new());
        self.single.retain(|subject, _| subjects.contains(subject));
        self.files.retain(&subjects);
        for subject in subjects {
            match &subject {
                Subject::Interface(name) => drop(interfaces.insert(name.clone())),
                Subject::Process(name) => drop(processes.insert(name.clone())),
                Subject::Service { .. } => {}
                Subject::Script(_) | Subject::File(_) | Subject::Gateway(_) => self.start_single(subject),
            }
        }
        tell(&self.interfaces, interfaces);
        tell(&self.processes, processes);
    }

    fn start_single(&mut self, subject: Subject) {
        if self.single.contains_key(&subject) {
            return;
        }
        let report = self.report.clone();
        let task = match &subject {
            Subject::Script(tracked) => Task::start(script::follow(tracked.clone(), report)),
            Subject::File(path) => Task::start(file::follow(path.clone(), self.files.clone(), report)),
            Subject::Gateway(address) => Task::start(gateway::follow(*address, report)),
            Subject::Interface(_) | Subject::Process(_) | Subject::Service { .. } => return,
        };
        self.single.insert(subject, task);
    }
}

fn tell(sender: &watch::Sender<BTreeSet<String>>, names: BTreeSet<String>) {
    sender.send_if_modified(|present| {
        let differs = *present != names;
        *present = names;
        differs
    });
}

#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Task {
    fn start(run: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(run))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
