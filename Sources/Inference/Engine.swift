import Foundation
import Scheduling

/// The engine: a thread of its own that loads a model and runs every request, and a mailbox to it.
///
/// All members may be called from any thread and return at once. The thread sleeps while there is
/// nothing to do.
package final class Engine: GenerationEngine {
  private let mailbox = Mailbox()
  private let ended = DispatchSemaphore(value: 0)

  /// Starts the thread, which first loads the model with `load`.
  ///
  /// `load` may report its progress; what it throws ends in `EngineState.stopped` and is thrown by
  /// `waitUntilLoaded`.
  package init<Executor: StepExecutor & ~Copyable>(
    load:
      @escaping @Sendable (_ report: @escaping @Sendable (LoadProgress) -> Void) throws
      -> LoadedModel<Executor>
  ) {
    let thread = Thread { [mailbox, ended] in
      do {
        let model = try load { mailbox.report($0) }
        mailbox.open(model.facts, limits: model.limits)
        EngineLoop(model, mailbox: mailbox).run()
      } catch {
        mailbox.fail(error)
      }
      ended.signal()
    }
    thread.name = "engine"
    thread.start()
  }

  deinit { mailbox.post(.stop) }

  /// Facts of the loaded model, nil while it loads.
  package var model: ModelFacts? { mailbox.model }
  /// How far loading has come, or how it ended.
  package var state: EngineState { mailbox.state }
  /// What the engine does now, as of its last step.
  package var load: EngineLoad { mailbox.load }

  /// Blocks until the model is loaded; throws why it could not be.
  package func waitUntilLoaded() throws { try mailbox.waitUntilLoaded() }

  /// Queues a request or throws why it cannot be; `onEvent` is called on the engine's thread.
  package func submit(
    _ request: GenerationRequest, onEvent: @escaping @Sendable (GenerationEvent) -> Void
  ) throws(GenerationFailure) {
    try mailbox.submit(request, onEvent)
  }

  /// Ends every choice of a request within one step.
  package func cancel(_ id: String) { mailbox.post(.cancel(id)) }

  /// Ends one choice of a request within one step.
  package func cancel(_ id: String, choice: Int) { mailbox.post(.cancelChoice(id, choice)) }

  /// Takes no new requests from now on; those in flight go on.
  package func drain() { mailbox.drain() }

  /// Ends every request with `aborted` and blocks until the thread has left its loop.
  package func stop() {
    mailbox.post(.stop)
    ended.wait()
    ended.signal()
  }
}
