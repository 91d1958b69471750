//! What one provider of external work does; everything else is the driver's.

use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use ticket_workflows::{Evidence, ExecutionReport, Failed};

use super::{Fault, Key};
use crate::executor::{Job, Recognition};
use crate::logs::Log;

/// What a ticket asks for, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan<S> {
    /// What is created.
    pub spec: S,
    /// Time the work may take, if the attempt has so much left.
    pub limit: Duration,
}

/// Work that is still there at the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover<H> {
    /// The ticket that it belongs to.
    pub ticket_id: String,
    /// The run of that ticket's workflow.
    pub run_id: String,
    /// The work.
    pub handle: H,
}

/// One provider's side of the protocol. Calls are made one after the other, each within the driver's time limit; a call that
/// takes longer is dropped, and its fault is [`Fault::Lost`]. Only [`Provider::follow`] runs beside others, for as long as the work
/// does.
pub trait Provider: Send + Sync + 'static {
    /// The ticket's `parameters`, typed.
    type Params: DeserializeOwned + Send;
    /// What is created.
    type Spec: Send + Sync;
    /// What names the work at the provider. It goes into heartbeats: small, and without secrets. With [`Recognition::None`] it may
    /// be what only this worker has, such as a call that is under way; then it is written as null, and a lost worker's work is in
    /// doubt.
    type Handle: Serialize + DeserializeOwned + Send + Sync;
    /// How the work ended.
    type End: Send + Sync;
    /// What it left: its output.
    type Output: Send;

    /// What the provider is called in messages, heartbeats and metrics.
    const NAME: &'static str;

    /// How work that was created before can be recognised. With [`Recognition::Lookup`] the provider itself must refuse to
    /// hold two pieces of work under one key: [`Provider::create`] is repeated when its answer was lost and nothing was found.
    const RECOGNITION: Recognition;

    /// Whether the work is one call, which [`Provider::create`] makes, whose answer is its end and is given to nobody else. Then nothing
    /// is prepared; [`Provider::watch`], [`Provider::stop`] and [`Provider::collect`] call nobody, so they wait for no turn; a worker that
    /// goes away keeps an answer that it has in hand; and a lost one is final, since the work may go on beside another attempt.
    const ONE_CALL: bool = false;

    /// Checks what the ticket asks for, without a call.
    ///
    /// # Errors
    /// When the ticket asks for what it may not have, or for what makes no sense.
    fn plan(&self, params: Self::Params, job: &Job) -> Result<Plan<Self::Spec>, Failed>;

    /// Brings what must be there before the work can be created, such as an image. May take long, may be dropped at any
    /// point, may be repeated, and creates nothing that would have to be stopped.
    ///
    /// # Errors
    /// When it cannot be brought.
    fn prepare(&self, spec: &mut Self::Spec) -> impl Future<Output = Result<(), Fault>> + Send {
        let _ = spec;
        std::future::ready(Ok(()))
    }

    /// The work of this key. Asked for with [`Recognition::Lookup`] only.
    ///
    /// # Errors
    /// When the provider cannot say. That it has no such work is no error.
    fn look_up(&self, key: &Key, spec: &Self::Spec)
    -> impl Future<Output = Result<Option<Self::Handle>, Fault>> + Send;

    /// Creates the work under its key, or answers with the work that has the key already.
    ///
    /// # Errors
    /// When there is no work because of this call ([`Fault::Unavailable`], [`Fault::Deferred`], [`Fault::TicketRefused`],
    /// [`Fault::SetupRefused`], [`Fault::Denied`]), and when there may be ([`Fault::Errored`], [`Fault::Lost`], [`Fault::Malformed`]).
    fn create(&self, key: &Key, spec: &Self::Spec) -> impl Future<Output = Result<Self::Handle, Fault>> + Send;

    /// Whether the create that made this handle has had an answer. One that has not says nothing of the endpoint.
    fn has_answered(&self, handle: &Self::Handle) -> bool {
        let _ = handle;
        true
    }

    /// Waits for the end of the work, for which it starts work that was only created. May be dropped at any point and begun
    /// again; that is done every [`super::Patience::watch`].
    ///
    /// # Errors
    /// [`Fault::Vanished`] when the provider says that there is no such work. [`Fault::TicketRefused`] when it will never
    /// start. Any other fault is passed over until the attempt's time is over.
    fn watch(&self, handle: &Self::Handle) -> impl Future<Output = Result<Self::End, Fault>> + Send;

    /// Gives what the work writes to `log`, from [`Log::resume`] on, and says by [`Log::reached`] how far it came. Returns when
    /// the provider has no more for now: the work has ended, or has not begun. May be dropped at any point and begun again; that is
    /// done for as long as the work is watched, and once more when it has ended. For people: [`Provider::collect`] reads what the
    /// result holds.
    ///
    /// # Errors
    /// When it cannot be read now.
    fn follow(&self, handle: &Self::Handle, log: &Log) -> impl Future<Output = Result<(), Fault>> + Send {
        let _ = (handle, log);
        std::future::ready(Ok(()))
    }

    /// Ends the work, and answers once the provider has said that nothing of it runs any more. Ending what has ended is no
    /// error. `Some`: it was seen to have ended by itself, and so; the attempt is then judged by that end.
    ///
    /// # Errors
    /// When that could not be confirmed. [`Fault::Unsupported`] when the provider has no call for it: it is not asked again,
    /// and no other attempt is made beside work that goes on.
    fn stop(&self, handle: &Self::Handle) -> impl Future<Output = Result<Option<Self::End>, Fault>> + Send;

    /// Reads what the work left.
    ///
    /// # Errors
    /// When it cannot be read now.
    fn collect(&self, handle: &Self::Handle) -> impl Future<Output = Result<Self::Output, Fault>> + Send;

    /// What was read until now of output that cannot be read to its end because of `fault`.
    fn kept(&self, handle: &Self::Handle, fault: &Fault) -> Option<Self::Output> {
        let _ = (handle, fault);
        None
    }

    /// What the end of the work means. `output`: `None` when it could not be read.
    ///
    /// # Errors
    /// When the work failed.
    fn verdict(
        &self,
        handle: &Self::Handle,
        end: &Self::End,
        output: Option<&Self::Output>,
    ) -> Result<Evidence, Failed>;

    /// Output and metadata of the contract. `end`: `None` when the work was stopped.
    fn report(
        &self,
        spec: &Self::Spec,
        handle: &Self::Handle,
        end: Option<&Self::End>,
        output: Option<Self::Output>,
    ) -> ExecutionReport;

    /// All work of this product that is still there and that [`Provider::clean_up`] would do something about.
    ///
    /// # Errors
    /// When the provider cannot say.
    fn leftovers(&self) -> impl Future<Output = Result<Vec<Leftover<Self::Handle>>, Fault>> + Send {
        std::future::ready(Ok(Vec::new()))
    }

    /// Ends and removes work whose ticket has ended. Removing what is gone is no error.
    ///
    /// # Errors
    /// When it could not be removed; it is tried again.
    fn clean_up(&self, handle: &Self::Handle) -> impl Future<Output = Result<(), Fault>> + Send {
        let _ = handle;
        std::future::ready(Ok(()))
    }
}
