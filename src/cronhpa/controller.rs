//! Which object's turn it is: the objects as they are watched, and when each has something to be done.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use kube::core::DynamicObject;
use kube::runtime::watcher::Event;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cluster::Health;
use crate::cluster::custom::CustomObjects;
use crate::cluster::events::Recorder;
use crate::cluster::hpas::Hpas;
use crate::cluster::lease::{Election, Leadership};
use crate::cluster::request::describe;
use crate::cluster::scale::Scales;
use crate::model::objects::ResourceMapper;
use crate::schedule::Floors;
use crate::schedule::status::{Status, plan};

use super::acting::{Acting, Outcomes, Turn, hold_at};
use super::object::{Key, Object};
use super::standing::Standing;
use super::target::{Targets, is_hpa};
use super::{KIND, LEASE, Settings};

/// How often the cluster is asked whether it has the kind.
const LOOK: Duration = Duration::from_secs(30);

/// How many objects may ask the API server at a time.
const SLOTS: usize = 32;

/// The longest sleep: a clock that is put right, or a machine that was suspended, is noticed by then.
const NAP: Duration = Duration::from_secs(10);

/// How long turns under way may take to finish once the program stops.
const FINISH: Duration = Duration::from_secs(3);

/// Runs schedules, on one of the replicas; keeps the floors of their windows, on all of them.
pub struct Controller {
    client: Client,
    mapper: Arc<dyn ResourceMapper>,
    settings: Settings,
    floors: Arc<Floors>,
    standing: Standing,
    /// How often it is looked for whether the cluster has the kind.
    pub(super) look: Duration,
}

impl Controller {
    /// A controller of the objects in this client's cluster; `mapper` knows the kinds of their targets.
    pub fn new(client: Client, mapper: Arc<dyn ResourceMapper>, settings: Settings) -> Self {
        Self {
            client,
            mapper,
            settings,
            floors: Arc::default(),
            standing: Standing::default(),
            look: LOOK,
        }
    }

    /// The floors of all windows.
    pub fn floors(&self) -> Arc<Floors> {
        Arc::clone(&self.floors)
    }

    /// How it stands, now and later.
    pub fn standing(&self) -> Standing {
        self.standing.clone()
    }

    /// Runs until `cancel`; the Lease is given back once nothing is under way any more.
    pub async fn run(self, cancel: CancellationToken) {
        let Settings {
            namespace,
            identity,
            ..
        } = &self.settings;
        let election = Election::new(self.client.clone(), namespace, LEASE, identity.clone());
        let leadership = election.leadership();
        let over = CancellationToken::new();
        let following = async {
            self.look(leadership, &cancel).await;
            over.cancel();
        };
        tokio::join!(election.run(over.clone()), following);
    }

    /// Looks for the kind, and follows its objects while the cluster has it.
    async fn look(&self, leadership: Leadership, cancel: &CancellationToken) {
        let mut told = false;
        while !cancel.is_cancelled() {
            let found = CustomObjects::find(&self.client, KIND);
            let Some(found) = cancel.run_until_cancelled(found).await else {
                return;
            };
            match found {
                Ok(Some(objects)) => {
                    told = false;
                    info!("CronHorizontalPodAutoscalers are followed");
                    self.follow(objects, leadership.clone(), cancel).await;
                }
                Ok(None) => {
                    let name = format!("{}.{}", KIND.plural, KIND.group);
                    if !told {
                        warn!(
                            name,
                            "CustomResourceDefinition is not installed; looked for again"
                        );
                    }
                    told = true;
                    let missing = format!("the CustomResourceDefinition {name} is not installed");
                    self.standing.trouble(missing);
                }
                Err(error) => {
                    let error = describe(&error);
                    self.standing
                        .trouble(format!("cannot look for {}: {error}", KIND.plural));
                }
            }
            cancel.run_until_cancelled(sleep(self.look)).await;
        }
    }

    /// Follows the objects until `cancel`, or until the cluster no longer has their kind.
    async fn follow(
        &self,
        objects: CustomObjects,
        mut leadership: Leadership,
        cancel: &CancellationToken,
    ) {
        let mut follow = objects.follow();
        let health = follow.health();
        let targets = Targets {
            scales: Scales::new(self.client.clone(), Arc::clone(&self.mapper)),
            hpas: Hpas::new(self.client.clone()),
        };
        let acting = Acting {
            objects,
            targets,
            recorder: Recorder::new(self.client.clone(), KIND.kind),
            leadership: leadership.clone(),
            defaults: self.settings.defaults.clone(),
            standing: self.standing.clone(),
            slots: Semaphore::new(SLOTS),
        };
        let mut table = Table {
            acting: Arc::new(acting),
            floors: Arc::clone(&self.floors),
            standing: self.standing.clone(),
            entries: HashMap::new(),
            agenda: BTreeSet::new(),
            turns: JoinSet::new(),
            listed: None,
            synced: false,
            leads: false,
        };
        let mut looks = interval(self.look);
        loop {
            let nap = table.nap();
            tokio::select! {
                () = cancel.cancelled() => break,
                event = follow.next() => table.take(event),
                leads = leadership.changed(table.leads) => table.lead(leads),
                Some(turn) = table.turns.join_next() => match turn {
                    Ok(Some((key, turn))) => table.turned(&key, turn),
                    Ok(None) => {}
                    Err(error) => warn!(%error, "a turn has ended by itself"),
                },
                () = sleep(nap) => table.look_around(),
                _ = looks.tick() => {
                    let failing = match &*health.borrow() {
                        Health::Failing { error, .. } => Some(error.clone()),
                        Health::Starting | Health::Live => None,
                    };
                    let Some(error) = failing else {
                        table.tell();
                        continue;
                    };
                    self.standing.trouble(format!("the watch fails: {error}"));
                    if let Ok(None) = CustomObjects::find(&self.client, KIND).await {
                        break;
                    }
                }
            }
        }
        // A turn that is cut off leaves its jobs to the replica that acts next.
        let ended = async { while table.turns.join_next().await.is_some() {} };
        let _ = timeout(FINISH, ended).await;
        table.turns.shutdown().await;
        for key in table.entries.keys() {
            self.floors.set(&key.0, &key.1, Vec::new());
        }
    }
}

/// The objects, and what is to be done when.
struct Table {
    acting: Arc<Acting>,
    floors: Arc<Floors>,
    standing: Standing,
    entries: HashMap<Key, Entry>,
    /// When each object is to be looked at.
    agenda: BTreeSet<(Timestamp, Key)>,
    /// Those that are under way, and what else is.
    turns: JoinSet<Option<(Key, Turn)>>,
    /// The objects of the list that is coming in.
    listed: Option<HashSet<Key>>,
    synced: bool,
    leads: bool,
}

struct Entry {
    object: Arc<Object>,
    next: Option<Timestamp>,
    /// Whether its turn is under way.
    busy: bool,
    /// Whether it changed meanwhile.
    changed: bool,
    /// The status that was written last: an older schema of the kind does not keep all of it.
    written: Option<Status>,
    /// What was run and could not be written down yet.
    outcomes: Outcomes,
}

impl Table {
    fn take(&mut self, event: Event<DynamicObject>) {
        match event {
            Event::Init => self.listed = Some(HashSet::new()),
            Event::InitApply(object) => {
                let object = Object::read(object);
                if let Some(listed) = &mut self.listed {
                    listed.insert(object.key.clone());
                }
                self.put(object);
            }
            Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                let gone = self.entries.keys().filter(|key| !listed.contains(*key));
                for key in gone.cloned().collect::<Vec<_>>() {
                    self.remove(&key);
                }
                let first = !std::mem::replace(&mut self.synced, true);
                if first && self.leads {
                    self.release_orphans();
                }
            }
            Event::Apply(object) => self.put(Object::read(object)),
            Event::Delete(object) => self.remove(&Object::read(object).key),
        }
        self.tell();
    }

    /// Says that all is well.
    fn tell(&self) {
        if self.synced && self.listed.is_none() {
            self.standing.objects(self.entries.len());
        }
    }

    fn put(&mut self, object: Object) {
        let key = object.key.clone();
        let windows = object.spec.as_ref().ok().filter(|spec| !spec.suspend);
        let zone = &self.acting.defaults.zone;
        let windows = windows.map(|spec| spec.windows(zone, object.created));
        let windows = windows.into_iter().flatten().flatten().collect();
        self.floors.set(&key.0, &key.1, windows);
        let object = Arc::new(object);
        match self.entries.get_mut(&key) {
            Some(entry) => entry.object = object,
            None => {
                let entry = Entry {
                    object,
                    next: None,
                    busy: false,
                    changed: false,
                    written: None,
                    outcomes: Outcomes::new(),
                };
                self.entries.insert(key.clone(), entry);
            }
        }
        self.consider(&key, false);
    }

    fn remove(&mut self, key: &Key) {
        self.floors.set(&key.0, &key.1, Vec::new());
        let Some(entry) = self.entries.remove(key) else {
            return;
        };
        if let Some(next) = entry.next {
            self.agenda.remove(&(next, key.clone()));
        }
        let target = entry
            .object
            .spec
            .as_ref()
            .ok()
            .map(|it| &it.scale_target_ref);
        if let Some(target) = target.filter(|it| self.leads && is_hpa(it)) {
            self.release(key.clone(), target.name.clone());
        }
    }

    fn release(&mut self, key: Key, hpa: String) {
        let acting = Arc::clone(&self.acting);
        self.turns.spawn(async move {
            acting.release(&key, &hpa).await;
            None
        });
    }

    /// Gives HPAs their bounds back whose objects went, or went over to another target, while nobody looked.
    fn release_orphans(&mut self) {
        let acting = Arc::clone(&self.acting);
        let targets = self.entries.iter().filter_map(|(key, entry)| {
            let target = &entry.object.spec.as_ref().ok()?.scale_target_ref;
            is_hpa(target).then(|| (key.clone(), target.name.clone()))
        });
        let targets: HashMap<Key, String> = targets.collect();
        self.turns.spawn(async move {
            match acting.targets.kept().await {
                Ok(kept) => {
                    for (namespace, name, by) in kept {
                        let key = (namespace, by);
                        if targets.get(&key) != Some(&name) {
                            acting.release(&key, &name).await;
                        }
                    }
                }
                Err(error) => {
                    let error = describe(&error);
                    warn!(%error, "cannot look for HPAs whose schedules are gone");
                }
            }
            None
        });
    }

    fn lead(&mut self, leads: bool) {
        self.leads = leads;
        self.standing.leads(leads);
        if !leads {
            return;
        }
        for key in self.entries.keys().cloned().collect::<Vec<_>>() {
            self.consider(&key, true);
        }
        if self.synced {
            self.release_orphans();
        }
    }

    /// Gives an object its turn if there is something to be done, else finds out when there will be. `due` says that its time
    /// has come; otherwise, it may have changed.
    fn consider(&mut self, key: &Key, due: bool) {
        if !self.leads {
            return;
        }
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if entry.busy {
            entry.changed = true;
            return;
        }
        let object = &entry.object;
        let (acts, next) = match &object.spec {
            // Its turn says so.
            Err(_) => (!due && entry.written.is_none(), None),
            Ok(spec) => {
                let now = Timestamp::now();
                let planned = plan(object.known(spec), &self.acting.defaults, now);
                let told = planned.status == object.status
                    || entry.written.as_ref() == Some(&planned.status);
                let holds = planned.floor > 0 || object.status.floor.is_some();
                let acts = !planned.runs.is_empty() || !told || (due && holds);
                let next = [planned.next, hold_at(&object.status)];
                (acts, next.into_iter().flatten().min())
            }
        };
        if acts {
            entry.busy = true;
            let outcomes = std::mem::take(&mut entry.outcomes);
            self.note(key, None);
            let (acting, key) = (Arc::clone(&self.acting), key.clone());
            self.turns.spawn(async move {
                let turn = acting.turn(&key, outcomes).await;
                Some((key, turn))
            });
        } else {
            self.note(key, next);
        }
    }

    fn turned(&mut self, key: &Key, turn: Turn) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        entry.busy = false;
        entry.outcomes = turn.outcomes;
        entry.written = turn.status.or(entry.written.take());
        if std::mem::take(&mut entry.changed) {
            self.consider(key, false);
        } else {
            self.note(key, turn.next);
        }
    }

    /// Notes when an object is to be looked at next.
    fn note(&mut self, key: &Key, next: Option<Timestamp>) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        if let Some(before) = std::mem::replace(&mut entry.next, next) {
            self.agenda.remove(&(before, key.clone()));
        }
        if let Some(next) = next {
            self.agenda.insert((next, key.clone()));
        }
    }

    /// How long there is nothing to do.
    fn nap(&self) -> Duration {
        let Some((next, _)) = self.agenda.first().filter(|_| self.leads) else {
            return NAP;
        };
        let until = next.duration_since(Timestamp::now());
        Duration::try_from(until).unwrap_or_default().min(NAP)
    }

    /// Looks at the objects whose time has come.
    fn look_around(&mut self) {
        let now = Timestamp::now();
        while let Some((at, key)) = self.agenda.first().cloned() {
            if at > now || !self.leads {
                return;
            }
            self.note(&key, None);
            self.consider(&key, true);
        }
    }
}
