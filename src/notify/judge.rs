//! What becomes of findings: each is told once to those who want to know, and its end once to those who were told.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::find::{self, BEGAN, Ended, Found, LOOKED};
use super::report::{Due, REPORTED};
use crate::model::incident::{Content, Finding, Incident, Notice};
use crate::model::notify::{Telling, Topic};
use crate::model::pipeline::Project;
use crate::state::{Facts, Judged};
use crate::time::Instant;

/// Says what follows from what was found, and from what is known.
pub(super) fn judge(project: &Project, found: Found, facts: &Facts, now: Instant) -> Judged {
    let mut judge = Judge {
        telling: &project.telling,
        open: facts.open.iter().map(|one| (one.key.clone(), one.clone())).collect(),
        judged: Judged::default(),
        notices: BTreeMap::new(),
        now,
    };
    let standing: HashSet<String> = found.standing.iter().map(|finding| finding.key.clone()).collect();
    for finding in found.standing {
        judge.wrong(finding);
    }
    for incident in facts.open.iter().filter(|one| find::stands(&one.key) && !standing.contains(&one.key)) {
        // What the project no longer has is over, and nobody's news.
        judge.well(&incident.key, now, is_ours(project, incident));
    }
    judge.by_runs(found.ended, facts);
    if !facts.marks.contains_key(BEGAN) {
        judge.judged.marks.push((BEGAN.to_owned(), now.to_rfc3339()));
    }
    let mut judged = judge.judged;
    let told = judge.notices.into_iter().map(|(channel, notices)| (channel, Content::Notices { notices }));
    judged.messages.extend(told);
    judged
}

/// A report for those who want to hear it, once for its date.
pub(super) fn reported(project: &Project, due: Due, facts: &Facts) -> Judged {
    let mut judged = Judged::default();
    if facts.marks.get(REPORTED) != Some(&due.date) {
        let hear = project.telling.channels.iter().filter(|channel| channel.on.contains(&Topic::Report));
        let content = Content::Report { report: due.report };
        judged.messages.extend(hear.map(|channel| (channel.name.clone(), content.clone())));
        judged.marks.push((REPORTED.to_owned(), due.date));
    }
    judged
}

struct Judge<'a> {
    telling: &'a Telling,
    /// The incidents that are open, as they are now.
    open: HashMap<String, Incident>,
    judged: Judged,
    /// What channels are told.
    notices: BTreeMap<String, Vec<Notice>>,
    now: Instant,
}

impl Judge<'_> {
    /// Something is wrong: new, for another cause, for other units, or as it was.
    fn wrong(&mut self, finding: Finding) {
        let Some(known) = self.open.get(&finding.key).cloned() else {
            let channels = self.listeners(finding.topic, finding.pipeline.as_deref());
            self.tell(&channels, &notice(&finding, self.now));
            self.judged.opened.push((finding, channels));
            return;
        };
        let mut incident = known.clone();
        let news: Vec<String> =
            finding.causes.iter().filter(|cause| !incident.causes.contains(cause)).cloned().collect();
        if !news.is_empty() {
            let channels = self.listeners(finding.topic, finding.pipeline.as_deref());
            let mut told = notice(&finding, incident.opened_at);
            // Of units that wait for somebody one by one, only the new ones are news.
            if finding.topic != Topic::Failure {
                told.units.retain(|unit| news.contains(unit));
                told.command = command(finding.topic, finding.pipeline.as_deref(), &finding.subject, &told.units);
            }
            self.tell(&channels, &told);
            for channel in channels.into_iter().filter(|channel| !known.channels.contains(channel)) {
                incident.channels.push(channel);
            }
            incident.causes.extend(news);
        }
        (incident.units, incident.reason) = (finding.units, finding.reason);
        incident.evidence = incident.evidence.max(finding.evidence);
        if incident != known {
            self.judged.changed.push(incident.clone());
            self.open.insert(incident.key.clone(), incident);
        }
    }

    /// Something is well that was wrong.
    fn well(&mut self, key: &str, evidence: Instant, is_news: bool) {
        let Some(incident) = self.open.remove(key) else { return };
        if is_news {
            let hear = |name: &String| {
                let channel = self.telling.channels.iter().find(|channel| channel.name == *name);
                channel.is_some_and(|channel| channel.hears(Topic::Recovery, incident.pipeline.as_deref()))
            };
            let channels: Vec<String> = incident.channels.iter().filter(|name| hear(name)).cloned().collect();
            self.tell(&channels, &recovery(&incident));
        }
        self.judged.changed.retain(|changed| changed.id != incident.id);
        self.judged.closed.push((incident.id, evidence));
    }

    /// What the runs tell that have ended: of each thing the last word, if it is newer than what is known.
    fn by_runs(&mut self, ended: Ended, facts: &Facts) {
        let is_news = |key: &str, evidence: Instant| facts.evidence.get(key).is_none_or(|known| *known < evidence);
        let mut last: BTreeMap<String, (Instant, Option<Finding>)> = BTreeMap::new();
        let failed = ended.failed.into_iter().map(|finding| (finding.key.clone(), finding.evidence, Some(finding)));
        let fine = ended.fine.into_iter().map(|(key, at)| (key, at, None));
        for (key, at, finding) in failed.chain(fine).filter(|(key, at, _)| is_news(key, *at)) {
            let newest = last.entry(key).or_insert((at, None));
            if newest.0 <= at {
                *newest = (at, finding);
            }
        }
        for (key, (at, finding)) in last {
            match finding {
                Some(finding) => self.wrong(finding),
                None => self.well(&key, at, true),
            }
        }
        for finding in ended.drifted.into_iter().filter(|one| is_news(&one.key, one.evidence)) {
            let channels = self.listeners(Topic::Drift, finding.pipeline.as_deref());
            self.tell(&channels, &notice(&finding, finding.evidence));
            self.judged.passing.push((finding, channels));
        }
        if let Some(until) = ended.until {
            self.judged.marks.push((LOOKED.to_owned(), until.to_rfc3339()));
        }
    }

    /// The channels that want to know.
    fn listeners(&self, topic: Topic, pipeline: Option<&str>) -> Vec<String> {
        let hear = self.telling.channels.iter().filter(|channel| channel.hears(topic, pipeline));
        hear.map(|channel| channel.name.clone()).collect()
    }

    fn tell(&mut self, channels: &[String], notice: &Notice) {
        for channel in channels {
            self.notices.entry(channel.clone()).or_default().push(notice.clone());
        }
    }
}

/// Whether the project still has what an incident is about.
fn is_ours(project: &Project, incident: &Incident) -> bool {
    let has_deadline = || {
        let deadlines = &project.telling.deadlines;
        deadlines.iter().any(|deadline| find::deadline_key(deadline) == incident.key)
    };
    let pipeline = incident.pipeline.as_ref();
    pipeline.is_none_or(|name| project.pipeline(name).is_some())
        && (incident.topic != Topic::Deadline || has_deadline())
}

fn notice(finding: &Finding, since: Instant) -> Notice {
    Notice {
        topic: finding.topic,
        key: finding.key.clone(),
        pipeline: finding.pipeline.clone(),
        subject: finding.subject.clone(),
        units: finding.units.clone(),
        since,
        reason: finding.reason.clone(),
        command: command(finding.topic, finding.pipeline.as_deref(), &finding.subject, &finding.units),
        was: None,
    }
}

fn recovery(incident: &Incident) -> Notice {
    Notice {
        topic: Topic::Recovery,
        key: incident.key.clone(),
        pipeline: incident.pipeline.clone(),
        subject: incident.subject.clone(),
        units: incident.units.clone(),
        since: incident.opened_at,
        reason: incident.reason.clone(),
        command: None,
        was: Some(incident.topic),
    }
}

/// What may be done about it.
fn command(topic: Topic, pipeline: Option<&str>, subject: &str, units: &[String]) -> Option<String> {
    match topic {
        Topic::Failure => pipeline.map(|pipeline| format!("haul run {pipeline}")),
        Topic::Held => units.first().map(|unit| format!("haul approve {subject} {unit}")),
        Topic::Deadline => Some("haul status".to_owned()),
        Topic::Drift => Some(format!("haul drift {subject}")),
        Topic::Late | Topic::Recovery | Topic::Report => None,
    }
}
