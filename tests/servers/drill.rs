//! What every server of the matrix has to do under clinit: all of its copies
//! answer on the one port; one stops, new connections go on to come to it, and
//! it is killed; nobody is refused, whoever waited for it is answered, and all
//! copies answer again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::{Pid, getpgid};

use super::Server;
use super::client::{Answer, ask, begin, read_answer};
use crate::harness::{DEADLINE, children, get, pidfd, readable, send};

/// So many ask at a time, each holding its connection until somebody has it.
const CLIENTS: usize = 6;

/// So many requests are sent as fast as they are answered.
const HASTY_REQUESTS: usize = 4000;

/// So many connections are made while a worker has stopped; it is not likely
/// that none of them is for that one.
const CONNECTIONS_BESIDE: usize = 24;

/// Between two looks at what nobody tells.
const TICK: Duration = Duration::from_millis(10);

/// A server that runs under clinit.
pub(crate) struct Drill {
    pub(crate) server: Server,
    pub(crate) port: u16,
    /// Clinit, as seen from here.
    pub(crate) init: i32,
    /// How many were asked for, each in a slot of its own.
    pub(crate) slots: usize,
    /// How many there are to be.
    pub(crate) copies: usize,
    /// Whether the port outlives its workers.
    pub(crate) holds_port: bool,
}

/// The worker processes of this clinit, each of which leads its group.
pub(crate) fn workers(init: i32) -> BTreeSet<i32> {
    let leads = |pid: &i32| getpgid(Some(Pid::from_raw(*pid))) == Ok(Pid::from_raw(*pid));
    children(init).into_iter().filter(leads).collect()
}

/// What clients have been told.
#[derive(Default)]
struct Told {
    /// The copies that have answered, with their slots.
    answers: BTreeMap<i32, Option<String>>,
    failures: Vec<String>,
}

impl Drill {
    /// # Errors
    ///
    /// What did not come true, in words.
    pub(crate) fn run(&self) -> Result<(), String> {
        self.first_answer()?;
        let before = self.all_answer(None)?;
        let victim = before.first().copied().ok_or("there is no worker")?;
        let after = self.all_answer(Some(victim))?;
        if before.intersection(&after).count() == self.copies - 1 {
            Ok(())
        } else {
            let what = format!("only {victim} was killed");
            Err(format!("{what}, and of {before:?} there are {after:?}"))
        }
    }

    /// Waits until it serves; until then it may refuse.
    pub(crate) fn first_answer(&self) -> Result<(), String> {
        let start = Instant::now();
        for address in self.server.addresses(self.port) {
            while let Err(error) = ask(address, self.init) {
                if !is_refusal(&error) || start.elapsed() > DEADLINE {
                    return Err(format!("the first answer of {address}: {error}"));
                }
                thread::sleep(TICK);
            }
        }
        Ok(())
    }

    /// Kills the victim, if there is one, while clients ask; then they ask
    /// until every worker has answered, and as many are there as have to be.
    /// Those are yielded.
    fn all_answer(&self, victim: Option<i32>) -> Result<BTreeSet<i32>, String> {
        let addresses = self.server.addresses(self.port);
        let told = Mutex::new(Told::default());
        // A request that begins after this is none that the victim accepts.
        let has_stopped = AtomicBool::new(victim.is_none());
        let is_over = AtomicBool::new(false);
        let learn = |is_late: bool, answer: io::Result<Option<Answer>>| {
            let mut told = told.lock().expect("no client has panicked");
            match answer {
                Ok(Some(answer)) if is_late => {
                    told.answers.insert(answer.copy, answer.slot);
                }
                Ok(_) => {}
                Err(error) if self.is_excused(&error, victim, is_late) => {}
                Err(error) => told.failures.push(error.to_string()),
            }
        };
        let client = |address: SocketAddr| {
            while !is_over.load(Ordering::SeqCst) {
                let is_late = has_stopped.load(Ordering::SeqCst);
                learn(is_late, ask(address, self.init).map(Some));
            }
        };
        let hasty_client = |address: SocketAddr| {
            for _ in 0..HASTY_REQUESTS {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let is_late = has_stopped.load(Ordering::SeqCst);
                learn(is_late, get(address).map(|_| None));
            }
        };
        let kill_beside_clients = |victim: i32| {
            stop(victim)?;
            has_stopped.store(true, Ordering::SeqCst);
            let count = if self.holds_port {
                CONNECTIONS_BESIDE
            } else {
                0
            };
            let addresses = addresses.iter().cycle().take(count);
            let begun: Vec<_> = addresses.map(|address| begin(*address)).collect();
            kill(victim)?;
            for connection in begun {
                learn(true, connection.and_then(read_answer).map(|_| None));
            }
            Ok(())
        };
        let there = thread::scope(|scope| {
            for address in addresses.iter().cycle().take(CLIENTS) {
                scope.spawn(|| client(*address));
            }
            if let (Some(_), Some(address)) = (victim, addresses.first()) {
                scope.spawn(|| hasty_client(*address));
            }
            let killed = victim.map_or(Ok(()), kill_beside_clients);
            let there = killed.and_then(|()| self.await_all(&told, victim));
            is_over.store(true, Ordering::SeqCst);
            there
        });
        let told = told.into_inner().expect("no client has panicked");
        let failures = &told.failures;
        if let Some(first) = failures.first() {
            return Err(format!(
                "{} requests failed: {first}; {there:?}",
                failures.len()
            ));
        }
        let there = there?;
        let is_strange = |copy: &&i32| !there.contains(copy) && victim != Some(**copy);
        let strange: Vec<_> = told.answers.keys().filter(is_strange).collect();
        if !strange.is_empty() {
            return Err(format!("{strange:?} answered, the workers are {there:?}"));
        }
        self.assert_slots(&told, &there)?;
        Ok(there)
    }

    /// Waits until as many workers are there as have to be, and all of them
    /// have answered.
    fn await_all(&self, told: &Mutex<Told>, victim: Option<i32>) -> Result<BTreeSet<i32>, String> {
        let start = Instant::now();
        loop {
            let there = workers(self.init);
            let told = told.lock().expect("no client has panicked");
            let answered: BTreeSet<i32> = told.answers.keys().copied().collect();
            let is_new = victim.is_none_or(|victim| !there.contains(&victim));
            if is_new && there.len() == self.copies && there.is_subset(&answered) {
                return Ok(there);
            }
            if start.elapsed() > DEADLINE {
                let failures = &told.failures;
                return Err(format!(
                    "of {} workers {there:?} only {answered:?} have answered; {} failures, the first: {:?}",
                    self.copies,
                    failures.len(),
                    failures.first(),
                ));
            }
            drop(told);
            thread::sleep(TICK);
        }
    }

    /// Whether this may befall a client; `is_late`: its request began when the
    /// victim had stopped.
    fn is_excused(&self, error: &io::Error, victim: Option<i32>, is_late: bool) -> bool {
        match victim {
            None => false,
            Some(_) if !self.holds_port => true,
            Some(_) if is_refusal(error) => false,
            // The victim was answering, or one of its children was.
            Some(_) => !is_late || self.server.has_children(),
        }
    }

    /// Every slot answered, where answers tell.
    fn assert_slots(&self, told: &Told, there: &BTreeSet<i32>) -> Result<(), String> {
        let slot = |copy: &i32| told.answers.get(copy)?.clone();
        let slots: BTreeSet<String> = there.iter().filter_map(slot).collect();
        let all: BTreeSet<String> = (0..self.slots).map(|slot| slot.to_string()).collect();
        let expected = if self.server.tells_slot() {
            self.copies
        } else {
            0
        };
        if slots.len() == expected && slots.is_subset(&all) {
            Ok(())
        } else {
            Err(format!("these slots answered: {slots:?}"))
        }
    }
}

/// Stops this process, and waits until all of its threads have.
fn stop(victim: i32) -> Result<(), String> {
    send(victim, libc::SIGSTOP);
    wait_for("the victim stops", || {
        let tasks = fs::read_dir(format!("/proc/{victim}/task"));
        tasks.is_ok_and(|mut tasks| {
            tasks.all(|task| {
                let status = task.and_then(|task| fs::read_to_string(task.path().join("status")));
                status.is_ok_and(|status| status.contains("\nState:\tT"))
            })
        })
    })
}

/// Kills this process, and waits until it is gone.
fn kill(victim: i32) -> Result<(), String> {
    let process = pidfd(victim).ok_or_else(|| format!("{victim} has ended already"))?;
    send(victim, libc::SIGKILL);
    if readable(&[process.as_fd()], DEADLINE) {
        Ok(())
    } else {
        Err(format!("{victim} still runs"))
    }
}

fn wait_for(what: &str, fact: impl Fn() -> bool) -> Result<(), String> {
    let start = Instant::now();
    while !fact() {
        if start.elapsed() > DEADLINE {
            return Err(format!("waited in vain for: {what}"));
        }
        thread::sleep(TICK);
    }
    Ok(())
}

fn is_refusal(error: &io::Error) -> bool {
    error.kind() == ErrorKind::ConnectionRefused
}
