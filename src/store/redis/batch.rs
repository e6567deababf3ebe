//! Natural batching: what comes while a batch is on its way makes up the next one. No timer: with nothing on its way a
//! single one leaves at once, and under load batches grow by themselves.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::task::TaskTracker;

/// The bounds of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Batches on their way at once.
    pub batches_max: usize,
    /// Members of one batch.
    pub members_max: usize,
    /// Bytes of one batch; a single larger member goes alone.
    pub bytes_max: usize,
}

/// Waiting members; more have to wait for room.
const QUEUE_MAX: usize = 4_096;

/// One member, its size, and where its result goes.
type Member<T, R> = (T, usize, oneshot::Sender<R>);

/// Collects members into batches. Clones feed the same batches; when the last one is gone, the collector ends after its
/// last batch.
#[derive(Debug)]
pub struct Batcher<T, R> {
    queue: mpsc::Sender<Member<T, R>>,
}

impl<T, R> Clone for Batcher<T, R> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<T: Send + 'static, R: Send + 'static> Batcher<T, R> {
    /// Runs a collector in `tasks`; `process` gives a result for each member, in their order.
    pub fn start<F>(
        tasks: &TaskTracker, bounds: Bounds, process: impl Fn(Vec<T>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Vec<R>> + Send + 'static,
    {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        tasks.spawn(collect(waiting, bounds, process, tasks.clone()));
        Self { queue }
    }

    /// The result of this member, once its batch is done; `None` where the collector is gone.
    pub async fn give(&self, member: T, bytes: usize) -> Option<R> {
        let (sender, result) = oneshot::channel();
        self.queue.send((member, bytes, sender)).await.ok()?;
        result.await.ok()
    }
}

async fn collect<T: Send + 'static, R: Send + 'static, F>(
    mut waiting: mpsc::Receiver<Member<T, R>>, bounds: Bounds,
    process: impl Fn(Vec<T>) -> F + Send + Sync + 'static, tasks: TaskTracker,
) where
    F: Future<Output = Vec<R>> + Send + 'static,
{
    // A permit is a batch on its way.
    let batches = Arc::new(Semaphore::new(bounds.batches_max));
    let mut first = None;
    loop {
        let Some(head) = (match first.take() {
            Some(head) => Some(head),
            None => waiting.recv().await,
        }) else {
            return;
        };
        let Ok(permit) = Arc::clone(&batches).acquire_owned().await else { return };
        let mut bytes = head.1;
        let (mut members, mut results) = (vec![head.0], vec![head.2]);
        while members.len() < bounds.members_max {
            let Ok(next) = waiting.try_recv() else { break };
            if bytes + next.1 > bounds.bytes_max {
                first = Some(next);
                break;
            }
            bytes += next.1;
            members.push(next.0);
            results.push(next.2);
        }
        let work = process(members);
        tasks.spawn(async move {
            for (sender, result) in results.into_iter().zip(work.await) {
                let _ = sender.send(result); // whoever asked may have gone
            }
            drop(permit);
        });
    }
}
