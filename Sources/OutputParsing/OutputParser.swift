/// Reads Step3's output as it comes and tells reasoning, answer and tool calls apart.
///
/// Fed any split of an output, it gives the same result as for the whole. The rules:
/// - Text before the first `</think>` is reasoning; a leading `<think>` is dropped. Without
///   `</think>` everything is reasoning, except that a tool marker ends the think block; a
///   `</think>` that comes after such an end is dropped.
/// - White space before a marker belongs to nobody. After a think marker line breaks are dropped,
///   after a tool block all white space.
/// - A block is `<｜tool_calls_begin｜>`, calls, `<｜tool_calls_end｜>`; each call
///   `<｜tool_call_begin｜>function<｜tool_sep｜>` and an invoke element, closed by
///   `<｜tool_call_end｜>`. A missing outer or closing marker is made up for by the next one.
/// - A parameter's value runs to its literal closing tag, so it may hold `<`; white space around it
///   is dropped, and its type is the schema's. A parameter named twice keeps its first value.
/// - What follows `<｜tool_call_begin｜>` but is no call is content, marker included; so is text
///   between calls, which ends the block. Text between parameters is dropped.
/// - When the output ends before a call's name is complete, the call's text is dropped; when it
///   ends within the call, the arguments are closed without the unfinished parameter, and the call
///   is marked incomplete.
/// - The name of a tool that was not offered is passed on, its values as text.
package struct OutputParser: Sendable {
  enum State: Equatable {
    /// Before the first text, where a leading `<think>` may stand.
    case start
    case reasoning
    case content
    /// In a tool block, outside of any call.
    case betweenCalls
    /// After `<｜tool_call_begin｜>`, up to the end of the invoke tag.
    case callHeader
    /// In an invoke element, outside of any parameter.
    case arguments
    /// In the value of the parameter of that name.
    case value(String)
    /// After an invoke element.
    case afterInvoke
  }

  /// Which white space the next text begins without.
  enum Skipping { case nothing, lineBreaks, space }

  let format: OutputFormat
  var state: State = .start
  var skipping: Skipping = .nothing
  /// Bytes not yet given out.
  var pending: [UInt8] = []
  /// Where the search for the end of a long value goes on.
  var searchedCount = 0
  /// Whether a tool marker ended the think block, so that a late `</think>` is dropped.
  var owesThinkClose = false
  /// Whether a tool block ended without its marker, so that late end markers are dropped.
  var owesBlockEnd = false
  /// The marker that opened the call being read, given back when it turns out to be no call.
  var openingMarker: [UInt8] = []
  var callCount = 0
  var call: OpenCall?
  var events: [OutputEvent] = []

  /// A parser for one choice's output.
  package init(_ format: OutputFormat) {
    self.format = format
  }

  /// Whether the text so far ends within the think block.
  package var isReasoning: Bool {
    state == .reasoning || (state == .start && format.parsesReasoning && format.startsInReasoning)
  }

  /// Reads more text and returns what it adds.
  package mutating func feed(_ text: String) -> [OutputEvent] {
    pending += Array(text.utf8)
    while advance() {}
    return takeEvents()
  }

  /// Ends the output and returns what was held back.
  package mutating func finish() -> [OutputEvent] {
    switch state {
    case .start:
      enterText()
      skipSpace()
      give(upTo: pending.count)
    case .reasoning, .content: give(upTo: pending.count)
    case .betweenCalls, .afterInvoke, .callHeader: break
    case .arguments, .value: finishCall(isComplete: false)
    }
    pending = []
    return takeEvents()
  }

  /// Takes one step; false when more text is needed.
  private mutating func advance() -> Bool {
    switch state {
    case .start: return advanceStart()
    case .reasoning, .content: return advanceText()
    case .betweenCalls: return advanceBetweenCalls()
    case .callHeader: return advanceHeader()
    case .arguments: return advanceArguments()
    case .value(let name): return advanceValue(name)
    case .afterInvoke: return advanceAfterInvoke()
    }
  }

  // MARK: Text

  private mutating func advanceStart() -> Bool {
    guard format.parsesReasoning else {
      state = .content
      return true
    }
    let place = pending.firstIndex { ![UInt8].isSpace($0) } ?? pending.count
    guard place < pending.count else { return false }
    for spelling in Marker.thinkOpen.spellings {
      switch pending.comparison(with: spelling, at: place) {
      case .equal:
        consume(place + spelling.count)
        enter(.reasoning, skipping: .lineBreaks)
        return true
      case .beginning: return false
      case .different: continue
      }
    }
    enterText()
    return true
  }

  /// Leaves the start where no `<think>` stands.
  private mutating func enterText() {
    if isReasoning { enter(.reasoning, skipping: .lineBreaks) } else { enter(.content) }
  }

  private mutating func advanceText() -> Bool {
    skipSpace()
    let markers = textMarkers
    switch MarkerSearch(markers, in: pending) {
    case .found(let marker, let place, let byteCount):
      let end = pending.endWithoutSpace(before: place)
      give(upTo: end)
      if marker == .callBegin {
        openingMarker = Array(pending[place - end..<place - end + byteCount])
      }
      consume(place - end + byteCount)
      pass(marker)
      return true
    case .none(let held):
      give(upTo: markers.isEmpty ? held : pending.endWithoutSpace(before: held))
      return false
    }
  }

  private var textMarkers: [Marker] {
    var markers: [Marker] = []
    if state == .reasoning || owesThinkClose { markers.append(.thinkClose) }
    if format.parsesTools { markers += [.callsBegin, .callBegin] }
    if owesBlockEnd { markers += [.callsEnd, .callEnd] }
    return markers
  }

  /// Goes where a marker within text leads.
  private mutating func pass(_ marker: Marker) {
    switch marker {
    case .thinkClose:
      owesThinkClose = false
      enter(.content, skipping: .lineBreaks)
    case .callsBegin, .callBegin:
      if state == .reasoning { owesThinkClose = true }
      enter(marker == .callBegin ? .callHeader : .betweenCalls)
    default:
      owesBlockEnd = marker != .callsEnd
      enter(.content, skipping: .space)
    }
  }

  private mutating func skipSpace() {
    guard skipping != .nothing else { return }
    let end =
      pending.firstIndex { byte in
        skipping == .space ? ![UInt8].isSpace(byte) : byte != 0x0A && byte != 0x0D
      } ?? pending.count
    if end < pending.count { skipping = .nothing }
    consume(end)
  }

  // MARK: Plumbing

  mutating func enter(_ next: State, skipping: Skipping = .nothing) {
    state = next
    self.skipping = skipping
    searchedCount = 0
  }

  /// Drops the first `count` bytes.
  mutating func consume(_ count: Int) {
    pending.removeFirst(count)
  }

  /// Gives the first `count` bytes out as text of the present state.
  mutating func give(upTo count: Int) {
    guard count > 0 else { return }
    give(pending.text(0..<count), as: state == .reasoning ? .reasoning : .content)
    consume(count)
  }

  /// Gives out text; text that follows text of its kind joins it.
  mutating func give(_ text: String, as state: State) {
    switch (events.last, state) {
    case (.reasoning(let before), .reasoning):
      events[events.count - 1] = .reasoning(before + text)
    case (_, .reasoning): events.append(.reasoning(text))
    case (.content(let before), _): events[events.count - 1] = .content(before + text)
    default: events.append(.content(text))
    }
  }

  private mutating func takeEvents() -> [OutputEvent] {
    defer { events = [] }
    return events
  }
}
