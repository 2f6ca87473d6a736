//! From requests to what the core is asked, and back to answers.

use crate::control::{Amount, Object, Request, Target, granted, refusal};
use crate::supervisor::{self, Arrival, Event, Failure, Scale, Signal, Whom};
use crate::sys::cgroup::{Root, memory_limit};

use super::super::Shell;
use super::super::cpus::Cpus;
use super::super::log;
use super::clients::Role;

/// Why nothing is granted any more.
const ENDING: &str = "clinit is shutting down";

impl Shell {
    /// Answers a request, at once or once it is done.
    pub(super) fn answer(&mut self, id: u32, request: Request) {
        log::debug!("asked for {}", request.line());
        let asked = match request {
            Request::Status(target) => {
                let status = self.resolve(&target).map(|whom| self.status(whom));
                let line = status.unwrap_or_else(|why| refusal(&why));
                return self.send(id, &line);
            }
            Request::Events => {
                self.control.set_role(id, Role::Events);
                return self.send(id, &granted());
            }
            Request::Kill => {
                self.events.push_back(Event::Signal(Arrival {
                    signal: Signal::TERM,
                    value: None,
                    from_kernel: false,
                }));
                return self.send(id, &granted());
            }
            Request::WaitReady => {
                self.control.set_role(id, Role::Ready);
                return self.look_at_readiness();
            }
            Request::WaitStopped => return self.control.set_role(id, Role::Stopped),
            Request::ProbeLive => return self.send(id, &granted()),
            Request::ProbeReady => {
                let line = self.readiness();
                return self.send(id, &line);
            }
            Request::Reload => {
                self.control.set_role(id, Role::Reload(None));
                Ok(supervisor::Request::Reload)
            }
            Request::Scale(amount) => Ok(supervisor::Request::Scale(self.scale_of(amount))),
            Request::Restart(target) => self.resolve(&target).map(supervisor::Request::Restart),
            Request::Stop(target) => self.resolve(&target).map(supervisor::Request::Stop),
            Request::Start(target) => self.resolve(&target).map(supervisor::Request::Start),
            Request::Signal(signal, target) => self
                .resolve(&target)
                .map(|whom| supervisor::Request::Forward(signal, whom)),
            Request::Delete(target) => match self.resolve(&target) {
                Ok(Whom::Slot(slot)) => Ok(supervisor::Request::Delete(slot)),
                Ok(Whom::All) => Err("the only app cannot be deleted: clinit kill ends it".into()),
                Err(why) => Err(why),
            },
        };
        match asked {
            Ok(asked) => self.ask_core(id, asked),
            Err(why) => self.send(id, &refusal(&why)),
        }
    }

    /// Tells the core, and the client what the core says.
    fn ask_core(&mut self, id: u32, asked: supervisor::Request) {
        let scales = matches!(asked, supervisor::Request::Scale(_));
        // What has happened before it comes before it.
        while let Some(event) = self.events.pop_front() {
            self.step(event);
        }
        let is_serving = self.supervisor.is_serving();
        self.control.asker = Some(id);
        self.control.refused = (!is_serving).then(|| ENDING.into());
        self.step(Event::Asked(asked));
        self.control.asker = None;
        let refused = self.control.refused.take();
        let role = self.control.role(id);
        if let Some(Role::Reload(Some(_))) = role {
            return;
        }
        if role == Some(Role::Reload(None)) {
            self.control.set_role(id, Role::Asking);
            let why = refused.unwrap_or_else(|| ENDING.into());
            return self.send(id, &refusal(&why));
        }
        if asked == supervisor::Request::Reload {
            // It has been answered on the way.
            return;
        }
        let line = match refused {
            Some(why) => refusal(&why),
            None if scales => {
                let instances = u64::from(self.supervisor.instances());
                let line = Object::line().flag("ok", true);
                line.number("instances", instances).finish()
            }
            None => granted(),
        };
        self.send(id, &line);
    }

    fn scale_of(&self, amount: Amount) -> Scale {
        match amount {
            Amount::To(to) => Scale::To(to),
            Amount::By(by) => Scale::By(by),
            Amount::Max => {
                let sizing = self.control.facts.at_most();
                let memory = memory_limit(&Root::system()).map(|(limit, _)| limit);
                Scale::To(sizing.workers(Cpus::count(&sizing).count, memory))
            }
        }
    }

    fn resolve(&self, target: &Target) -> Result<Whom, String> {
        let known = &self.control.facts.app;
        match target {
            Target::All => Ok(Whom::All),
            Target::Slot(slot) => Ok(Whom::Slot(*slot)),
            Target::App(name) if name == known => Ok(Whom::All),
            Target::App(_) => Err(["no app has that name: the only one is ", known].concat()),
        }
    }

    // ---- readiness ----

    /// What `probe ready` is answered.
    fn readiness(&mut self) -> String {
        if self.is_ready() {
            return granted();
        }
        if self.supervisor.is_leaving() {
            return refusal(ENDING);
        }
        let (ready, of) = (self.supervisor.ready(), self.supervisor.instances());
        let ready = ready.to_string();
        refusal(&[&ready, " of ", &of.to_string(), " workers are ready"].concat())
    }

    fn is_ready(&mut self) -> bool {
        let (ready, wanted) = (self.supervisor.ready(), self.supervisor.instances());
        let is_ready = self.control.readiness.is_ready(ready, wanted);
        is_ready && (self.control.facts.ready_during_drain || !self.supervisor.is_leaving())
    }

    /// Keeps in mind whether half the workers have been ready, and answers
    /// those who wait for it.
    pub(in crate::shell) fn look_at_readiness(&mut self) {
        let waiting = self.control.with_role(|role| role == Role::Ready);
        if self.control.readiness.is_reached() && waiting.is_empty() {
            return;
        }
        if self.is_ready() {
            for id in waiting {
                self.control.set_role(id, Role::Asking);
                self.send(id, &granted());
            }
        }
    }

    // ---- reloads ----

    /// A reload to this generation begins now, or later: the asker waits for
    /// its end.
    pub(super) fn reload_begins(&mut self, generation: u32) {
        if let Some(id) = self.control.asker
            && self.control.role(id) == Some(Role::Reload(None))
        {
            self.control.set_role(id, Role::Reload(Some(generation)));
        }
    }

    /// The reload to this generation is over.
    pub(super) fn reload_ends(&mut self, generation: u32, failure: Option<(Failure, bool)>) {
        // One that was to follow ends with it, where clinit does.
        let all = matches!(failure, Some((Failure::Shutdown, _)));
        let follows = |role| matches!(role, Role::Reload(_));
        let mut followers = self.control.with_role(follows);
        let generation_is = Some(Role::Reload(Some(generation)));
        followers.retain(|id| all || self.control.role(*id) == generation_is);
        let line = Object::line().flag("ok", failure.is_none());
        let line = line.number("generation", u64::from(generation));
        let line = match failure {
            None => line,
            Some((failure, partial)) => {
                let what = if partial {
                    "partial: some workers are not replaced: "
                } else {
                    "nothing has changed: "
                };
                let why = [what, &failure.to_string()].concat();
                line.flag("partial", partial).text("error", &why)
            }
        };
        let line = line.finish();
        for id in followers {
            self.control.set_role(id, Role::Asking);
            self.send(id, &line);
        }
    }
}
