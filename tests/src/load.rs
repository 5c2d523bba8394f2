//! Many people at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinHandle;

use crate::{Person, driver::PATIENCE, history::History};

/// People who ask until they are told to stop, each in sessions of one's own.
pub struct Load {
    stop: Arc<AtomicBool>,
    people: Vec<JoinHandle<()>>,
}

impl Load {
    /// Begins: person `k` asks the `k`-th of the models.
    pub async fn start(nodes: &[String], history: &History, people: usize, models: &[&str]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for index in 0..people {
            let person = Person::register(nodes, history).await;
            let (model, stop) = (models[index % models.len()].to_owned(), stop.clone());
            tasks.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let session = person.session(&model).await;
                    for _ in 0..3 {
                        if !stop.load(Ordering::Relaxed) {
                            person.ask(session, &model).await;
                        }
                    }
                }
            }));
        }
        Self { stop, people: tasks }
    }

    /// Waits until `asks` more have been answered.
    pub async fn more(&self, history: &History, asks: usize) {
        let wanted = history.len() + asks;
        crate::eventually("people are answered", async || (history.len() >= wanted).then_some(())).await;
    }

    /// Lets everybody finish what they are at.
    pub async fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        for person in self.people {
            person.await.unwrap();
        }
    }
}

/// `people` ask `asks` times each, all at once. Who gets no answer asks no more.
pub async fn crowd(nodes: &[String], history: &History, people: usize, asks: usize, model: &str) {
    patient_crowd(nodes, history, people, asks, model, PATIENCE).await;
}

/// Like [`crowd`], of people with this patience.
pub async fn patient_crowd(
    nodes: &[String],
    history: &History,
    people: usize,
    asks: usize,
    model: &str,
    patience: Duration,
) {
    let mut tasks = Vec::new();
    for _ in 0..people {
        let mut person = Person::register(nodes, history).await;
        person.patience = patience;
        let model = model.to_owned();
        tasks.push(tokio::spawn(async move {
            let session = person.session(&model).await;
            for _ in 0..asks {
                if person.ask(session, &model).await.left {
                    break;
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}
