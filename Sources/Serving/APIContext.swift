import Inference
import Synchronization

/// What all routes share.
final class APIContext: Sendable {
  let engine: any GenerationEngine
  let settings: APISettings
  let metrics = ServerMetrics()
  let responses: ResponseStore
  let pages: Pages
  let constraints = ConstraintCompiler()
  private let unknownFields: UnknownFields
  let started = ContinuousClock.now
  /// Seconds since 1970 when the server started, for `created` of the models.
  let startedAt = WallClock.seconds
  private let text = Mutex<((any ModelText), ImageReader?)?>(nil)

  init(
    engine: any GenerationEngine, settings: APISettings, warn: @escaping @Sendable (String) -> Void
  ) {
    self.engine = engine
    self.settings = settings
    pages = Pages(settings)
    unknownFields = UnknownFields(pages.description, tell: warn)
    responses = ResponseStore(
      capacity: settings.storedResponseCount, seconds: settings.storedResponseSeconds)
  }

  func install(_ text: any ModelText, images: ImageReader?) {
    self.text.withLock { $0 = (text, images) }
    constraints.prepare(text.vocabulary)
  }

  /// The model, once it is loaded and serving.
  func servedModel() throws(APIError) -> ServedModel {
    switch engine.state {
    case .loading(let progress):
      throw .loading(fraction: progress.fraction, secondsLeft: progress.estimatedSecondsLeft)
    case .draining: throw .engine(.draining)
    case .stopped: throw .engine(.engineStopped)
    case .ready: break
    }
    guard let facts = engine.model, let (text, images) = text.withLock({ $0 }) else {
      throw .loading(fraction: 1, secondsLeft: nil)
    }
    return ServedModel(text: text, facts: facts, images: images)
  }

  /// The fields of a request's body.
  func fields(_ exchange: HTTPExchange, _ route: Route) throws(APIError) -> FieldReader {
    let fields = try exchange.request.fields()
    unknownFields.check(fields, route)
    return fields
  }

  /// The name to answer with for the model a request asks for.
  func resolve(model name: String?) throws(APIError) -> String {
    guard let name, !name.isEmpty else { return settings.modelNames.first ?? "" }
    guard settings.modelNames.contains(name) else { throw .unknownModel(name: name) }
    return name
  }

  /// Starts a run of what was prepared.
  func run(_ prepared: PreparedGeneration, _ model: ServedModel) throws(APIError) -> GenerationRun {
    try GenerationRun(prepared, engine: engine, model: model, metrics: metrics)
  }

  /// `system_fingerprint` of answers.
  func fingerprint(_ model: ServedModel) -> String {
    "step3-\(settings.version)-\(model.facts.fingerprint)"
  }
}
