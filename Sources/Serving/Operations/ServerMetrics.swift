import Inference
import Synchronization

/// What the server counts; the engine's own counts join it when `/metrics` is asked.
final class ServerMetrics: Sendable {
  private let state = Mutex(State())

  private struct State {
    var promptTokens = 0
    var generatedTokens = 0
    var cachedTokens = 0
    var finished: [String: Int] = [:]
    var rejected: [String: Int] = [:]
    var http: [HTTPKey: Histogram] = [:]
    var firstToken = Histogram(Histogram.firstToken)
    var interToken = Histogram(Histogram.perToken)
    var timePerToken = Histogram(Histogram.perToken)
    var endToEnd = Histogram(Histogram.perRequest)
    var queue = Histogram(Histogram.perRequest)
    var inference = Histogram(Histogram.perRequest)
    var prefill = Histogram(Histogram.perRequest)
    var decode = Histogram(Histogram.perRequest)
    var promptSizes = Histogram(Histogram.tokenCounts)
    var answerSizes = Histogram(Histogram.tokenCounts)
    var maximumTokens = Histogram(Histogram.tokenCounts)
    var choices = Histogram(Histogram.choices)
    var longestAnswers = Histogram(Histogram.tokenCounts)
    var preemptions = Histogram(Histogram.preemptions)
  }

  /// How the time and the tokens of one choice went.
  struct ChoiceTally {
    var tokens: Int
    /// Seconds from submission to the end, to the first step and to the first token.
    var seconds: Double
    var queueSeconds: Double?
    var firstTokenSeconds: Double?
  }

  private struct HTTPKey: Hashable {
    var handler: String
    var method: String
    var status: Int

    var labels: String {
      "handler=\"\(handler)\",method=\"\(method)\",status=\"\(status)\""
    }
  }

  func didSubmit(_ prepared: PreparedGeneration) {
    state.withLock { state in
      for request in prepared.requests {
        state.promptTokens += request.prompt.count
        state.promptSizes.observe(Double(request.prompt.count))
        state.maximumTokens.observe(Double(request.maximumTokens))
        state.choices.observe(Double(request.choiceCount))
      }
    }
  }

  func didReject(_ failure: GenerationFailure) {
    let reason: String? =
      switch failure {
      case .queueFull: "max_num_queued_reqs"
      case .queuedTokensFull: "max_num_queued_tokens"
      case .loading: "loading"
      case .draining: "draining"
      default: nil
      }
    if let reason { state.withLock { $0.rejected[reason, default: 0] += 1 } }
  }

  func didPrefill(_ report: PromptReport) {
    state.withLock { state in
      state.cachedTokens += report.cachedTokenCount
      state.queue.observe(report.queueSeconds)
      state.prefill.observe(report.prefillSeconds)
    }
  }

  func didGenerateFirst(afterSeconds seconds: Double) {
    state.withLock { state in
      state.firstToken.observe(seconds)
      state.generatedTokens += 1
    }
  }

  func didGenerate(afterSeconds seconds: Double) {
    state.withLock { state in
      state.interToken.observe(seconds)
      state.generatedTokens += 1
    }
  }

  /// A choice is over.
  func didFinish(_ reason: ChoiceOutcome.Reason, _ tally: ChoiceTally) {
    let name =
      switch reason {
      case .endOfSequence, .stopToken, .stopString, .constraintComplete: "stop"
      case .length: "length"
      case .aborted: "abort"
      case .failed: "error"
      }
    state.withLock { state in
      state.finished[name, default: 0] += 1
      state.endToEnd.observe(tally.seconds)
      if let queue = tally.queueSeconds { state.inference.observe(tally.seconds - queue) }
      state.answerSizes.observe(Double(tally.tokens))
      if let first = tally.firstTokenSeconds, tally.tokens > 1 {
        state.decode.observe(tally.seconds - first)
        state.timePerToken.observe((tally.seconds - first) / Double(tally.tokens - 1))
      }
    }
  }

  /// All choices of a request are over: the tokens of its longest one, and its preemptions.
  func didFinishRequest(longest tokens: Int, preemptions: Int) {
    state.withLock { state in
      state.longestAnswers.observe(Double(tokens))
      state.preemptions.observe(Double(preemptions))
    }
  }

  func didAnswer(handler: String, method: String, status: Int, seconds: Double) {
    // Clients choose the method's name; what they make up must not grow the page.
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].contains(method)
    let key = HTTPKey(handler: handler, method: known ? method : "other", status: status)
    state.withLock { $0.http[key, default: Histogram(Histogram.http)].observe(seconds) }
  }
}

extension ServerMetrics {
  /// The exposition text, version 0.0.4, under each of `prefixes`.
  func text(
    prefixes: [String], model: String, engine: any GenerationEngine, residentByteCount: Int?,
    cluster: [ClusterMetric] = []
  ) -> String {
    let state = state.withLock { $0 }
    let escaped = model.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
    let labels = "model_name=\"\(escaped)\",engine=\"0\""
    var text = ""
    for prefix in prefixes {
      var page = MetricsPage(prefix: prefix, labels: labels)
      Self.writeEngine(engine, into: &page)
      Self.writeCounters(state, into: &page)
      Self.writeHistograms(state, into: &page)
      if let residentByteCount { page.gauge("rss_bytes", Double(residentByteCount)) }
      text += page.text
    }
    // Nobody else has these under another name.
    var page = MetricsPage(prefix: "step3:", labels: labels)
    for metric in cluster where !metric.samples.isEmpty {
      page.begin(metric.name, type: metric.type)
      for sample in metric.samples { page.line(metric.name, sample.value, more: sample.labels) }
    }
    text += page.text
    return text
  }

  private static func writeEngine(_ engine: any GenerationEngine, into page: inout MetricsPage) {
    let load = engine.load
    page.gauge("num_requests_running", Double(load.runningRequestCount))
    page.gauge("num_requests_waiting", Double(load.waitingRequestCount))
    page.gauge("kv_cache_usage_perc", load.cacheUsage)
    page.counter("num_preemptions_total", load.preemptionCount)
    page.counter("prefix_cache_queries_total", load.prefixCacheQueriedTokenCount)
    page.counter("prefix_cache_hits_total", load.prefixCacheHitTokenCount)
    page.counter("mm_cache_queries_total", load.imageQueryCount)
    page.counter("mm_cache_hits_total", load.imageHitCount)
    page.histogram(
      "iteration_tokens_total",
      Histogram(
        EngineLoad.stepTokenBounds.map(Double.init), tallies: load.stepSizes,
        sum: Double(load.stepTokenCount)))
    writeExperts(load.expertTokens, into: &page)
    page.counter("steps_total", load.stepCount)
    page.counter("step_tokens_total", load.stepTokenCount)
    page.gauge("step_seconds_total", load.stepSeconds, type: "counter")
    let peers = engine.peers
    if !peers.isEmpty {
      page.begin("peer_up", type: "gauge")
      for peer in peers {
        page.line(
          "peer_up", peer.isUp ? 1 : 0, more: "peer=\"\(peer.id)\",role=\"\(peer.role)\"")
      }
    }
    if let failovers = engine.failoverCount { page.counter("failovers_total", failovers) }
    switch engine.state {
    case .loading(let progress): page.gauge("load_progress", progress.fraction)
    case .ready, .draining: page.gauge("load_progress", 1)
    case .stopped: page.gauge("load_progress", 0)
    }
    if let model = engine.model {
      page.gauge("weights_bytes", Double(model.weightByteCount))
      page.gauge(
        "cache_config_info", 1,
        more: "block_size=\"\(model.blockSize)\","
          + "num_blocks=\"\(model.cacheCapacityTokens / max(1, model.blockSize))\"")
    }
  }

  /// One line an expert, for the layers that have experts.
  private static func writeExperts(_ tokens: ExpertTokens, into page: inout MetricsPage) {
    guard tokens.expertCount > 0 else { return }
    page.begin("expert_tokens_total", type: "counter")
    for start in stride(from: 0, to: tokens.counts.count, by: tokens.expertCount) {
      let layer = tokens.counts[start..<start + tokens.expertCount]
      guard layer.contains(where: { $0 > 0 }) else { continue }
      for (expert, count) in layer.enumerated() {
        page.line(
          "expert_tokens_total", Double(count),
          more: "layer=\"\(start / tokens.expertCount)\",expert=\"\(expert)\"")
      }
    }
  }

  private static func writeCounters(_ state: State, into page: inout MetricsPage) {
    page.counter("prompt_tokens_total", state.promptTokens)
    page.counter("generation_tokens_total", state.generatedTokens)
    page.counter("prompt_tokens_cached_total", state.cachedTokens)
    page.counters(
      "request_success_total", label: "finished_reason",
      ["stop", "length", "abort", "error"].map { ($0, state.finished[$0] ?? 0) })
    page.counters(
      "admission_rejections_total", label: "reason",
      ["max_num_queued_reqs", "max_num_queued_tokens", "loading", "draining"].map {
        ($0, state.rejected[$0] ?? 0)
      })
    let answered = state.http.sorted {
      ($0.key.handler, $0.key.method, $0.key.status)
        < ($1.key.handler, $1.key.method, $1.key.status)
    }
    page.begin("http_requests_total", type: "counter")
    for (key, histogram) in answered {
      page.line("http_requests_total", Double(histogram.count), more: key.labels)
    }
    page.begin("http_request_duration_seconds", type: "histogram")
    for (key, histogram) in answered {
      page.lines("http_request_duration_seconds", histogram, more: key.labels)
    }
  }

  private static func writeHistograms(_ state: State, into page: inout MetricsPage) {
    page.histogram("time_to_first_token_seconds", state.firstToken)
    page.histogram("inter_token_latency_seconds", state.interToken)
    page.histogram("request_time_per_output_token_seconds", state.timePerToken)
    page.histogram("e2e_request_latency_seconds", state.endToEnd)
    page.histogram("request_queue_time_seconds", state.queue)
    page.histogram("request_inference_time_seconds", state.inference)
    page.histogram("request_prefill_time_seconds", state.prefill)
    page.histogram("request_decode_time_seconds", state.decode)
    page.histogram("request_prompt_tokens", state.promptSizes)
    page.histogram("request_generation_tokens", state.answerSizes)
    page.histogram("request_params_max_tokens", state.maximumTokens)
    page.histogram("request_params_n", state.choices)
    page.histogram("request_max_num_generation_tokens", state.longestAnswers)
    page.histogram("request_num_preemptions", state.preemptions)
  }
}

/// A metric that the process around the server knows.
package struct ClusterMetric: Sendable {
  /// One line.
  package struct Sample: Sendable {
    let labels: String
    let value: Double

    /// A value with labels as they are written, without braces; "" for none.
    package init(_ labels: String, _ value: Double) {
      self.labels = labels
      self.value = value
    }
  }

  let name: String
  let type: String
  let samples: [Sample]

  /// A metric of a type of the exposition format.
  package init(_ name: String, _ type: String, _ samples: [Sample]) {
    self.name = name
    self.type = type
    self.samples = samples
  }
}

/// Writes the exposition format for one prefix.
struct MetricsPage {
  let prefix: String
  let labels: String
  private(set) var text = ""

  init(prefix: String, labels: String) {
    self.prefix = prefix
    self.labels = labels
  }

  mutating func begin(_ name: String, type: String) {
    text += "# TYPE \(prefix)\(name) \(type)\n"
  }

  mutating func line(_ name: String, _ value: Double, more: String = "") {
    let all = more.isEmpty ? labels : "\(labels),\(more)"
    text += "\(prefix)\(name){\(all)} \(value.plain)\n"
  }

  mutating func lines(_ name: String, _ histogram: Histogram, more: String) {
    text += histogram.lines(name: prefix + name, labels: "\(labels),\(more)")
  }

  mutating func gauge(_ name: String, _ value: Double, type: String = "gauge", more: String = "") {
    begin(name, type: type)
    line(name, value, more: more)
  }

  mutating func counter(_ name: String, _ value: Int) {
    gauge(name, Double(value), type: "counter")
  }

  mutating func counters(_ name: String, label: String, _ values: [(String, Int)]) {
    begin(name, type: "counter")
    for (key, value) in values { line(name, Double(value), more: "\(label)=\"\(key)\"") }
  }

  mutating func histogram(_ name: String, _ histogram: Histogram) {
    begin(name, type: "histogram")
    text += histogram.lines(name: prefix + name, labels: labels)
  }
}
