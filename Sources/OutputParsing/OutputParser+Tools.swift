/// A call whose name is known and whose end is not.
struct OpenCall: Equatable, Sendable {
  let name: String
  /// Its index among the calls given out, nil when it is dropped.
  let index: Int?
  var parameterNames: Set<String> = []
}

extension OutputParser {
  /// The longest text before the separator, and the longest name, that a call may have.
  private static let nameLimit = 256

  /// Waits for a call or the block's end; anything else ends the block.
  mutating func advanceBetweenCalls() -> Bool {
    consume(pending.firstIndex { ![UInt8].isSpace($0) } ?? pending.count)
    guard !pending.isEmpty else { return false }
    switch MarkerSearch([.callBegin, .callsEnd, .invokeOpen, .callsBegin], in: pending) {
    case .found(let marker, 0, let byteCount):
      switch marker {
      case .callBegin:
        openingMarker = Array(pending[..<byteCount])
        consume(byteCount)
        enter(.callHeader)
      case .invokeOpen: enterNextInvoke()
      case .callsEnd:
        consume(byteCount)
        enter(.content, skipping: .space)
      default: consume(byteCount)
      }
      return true
    case .none(0): return false
    case .found, .none:
      owesBlockEnd = true
      enter(.content)
      return true
    }
  }

  /// Reads an invoke element that has no opening marker of its own.
  private mutating func enterNextInvoke() {
    openingMarker = []
    enter(.callHeader)
  }

  /// Reads `function<｜tool_sep｜><steptml:invoke name="…">`.
  mutating func advanceHeader() -> Bool {
    switch header() {
    case .incomplete: return false
    case .name(let name, let byteCount):
      consume(byteCount)
      startCall(name)
      enter(.arguments)
    case .malformed:
      if !openingMarker.isEmpty {
        give(openingMarker.text(0..<openingMarker.count), as: .content)
      }
      owesBlockEnd = true
      enter(.content)
    }
    return true
  }

  private enum Header {
    case incomplete, malformed
    case name(String, byteCount: Int)
  }

  private func header() -> Header {
    var place = 0
    guard let tag = pending.firstIndex(of: UInt8(ascii: "<")) else {
      return pending.count > Self.nameLimit ? .malformed : .incomplete
    }
    guard tag <= Self.nameLimit else { return .malformed }
    place = tag
    for spelling in Marker.separator.spellings {
      switch pending.comparison(with: spelling, at: place) {
      case .equal:
        place += spelling.count
        while place < pending.count, [UInt8].isSpace(pending[place]) { place += 1 }
        return invokeTag(at: place)
      case .beginning: return .incomplete
      case .different: continue
      }
    }
    return invokeTag(at: place)
  }

  private func invokeTag(at place: Int) -> Header {
    switch pending.comparison(with: Marker.invokeOpen.spellings[0], at: place) {
    case .beginning: return .incomplete
    case .different: return .malformed
    case .equal: return name(from: place + Marker.invokeOpen.spellings[0].count)
    }
  }

  /// Reads a name and the `">` that ends its tag.
  private func name(from start: Int) -> Header {
    guard let quote = pending[start...].firstIndex(of: UInt8(ascii: "\"")) else {
      return pending.count - start > Self.nameLimit ? .malformed : .incomplete
    }
    guard quote > start, quote - start <= Self.nameLimit else { return .malformed }
    guard quote + 1 < pending.count else { return .incomplete }
    guard pending[quote + 1] == UInt8(ascii: ">") else { return .malformed }
    return .name(pending.text(start..<quote), byteCount: quote + 2)
  }

  /// Reads up to the next parameter, or the end of the invoke element.
  mutating func advanceArguments() -> Bool {
    let ends: [Marker] = [.invokeClose, .callEnd, .callsEnd, .callBegin]
    switch MarkerSearch([.parameterOpen] + ends, in: pending) {
    case .none(let held):
      consume(held)
      return false
    case .found(.parameterOpen, let place, let byteCount):
      switch name(from: place + byteCount) {
      case .incomplete: return false
      case .malformed: consume(place + byteCount)
      case .name(let name, let end):
        consume(end)
        enter(.value(name))
      }
    case .found(let marker, let place, let byteCount):
      // A marker of the frame ends the element too; it is read again as what it is.
      consume(marker == .invokeClose ? place + byteCount : place)
      finishCall(isComplete: true)
      enter(.afterInvoke)
    }
    return true
  }

  /// Reads a parameter's value up to its closing tag.
  mutating func advanceValue(_ name: String) -> Bool {
    switch MarkerSearch([.parameterClose], in: pending, from: searchedCount) {
    case .none(let held):
      searchedCount = held
      return false
    case .found(_, let place, let byteCount):
      addArgument(name, pending.text(0..<place).trimmed)
      consume(place + byteCount)
      enter(.arguments)
      return true
    }
  }

  /// Reads up to what follows an invoke element.
  mutating func advanceAfterInvoke() -> Bool {
    consume(pending.firstIndex { ![UInt8].isSpace($0) } ?? pending.count)
    guard !pending.isEmpty else { return false }
    switch MarkerSearch([.callEnd, .invokeOpen], in: pending) {
    case .found(let marker, 0, let byteCount):
      if marker == .callEnd {
        consume(byteCount)
        enter(.betweenCalls)
      } else {
        enterNextInvoke()
      }
    case .none(0): return false
    case .found, .none: enter(.betweenCalls)
    }
    return true
  }

  // MARK: Calls

  private mutating func startCall(_ name: String) {
    let isKept = callCount == 0 || !format.keepsOnlyFirstCall
    call = OpenCall(name: name, index: isKept ? callCount : nil)
    guard isKept else { return }
    events.append(.toolCallStarted(index: callCount, name: name))
    callCount += 1
  }

  private mutating func addArgument(_ name: String, _ text: String) {
    guard let isNew = call?.parameterNames.insert(name).inserted, isNew, let call,
      let index = call.index
    else { return }
    let types = format.tools.first { $0.name == call.name }?.parameters[name] ?? []
    let opening = call.parameterNames.count == 1 ? "{" : ", "
    let key = ArgumentValue.json(name, as: [])
    let fragment = opening + key + ": " + ArgumentValue.json(text, as: types)
    events.append(.toolArguments(index: index, fragment: fragment))
  }

  mutating func finishCall(isComplete: Bool) {
    if let call, let index = call.index {
      let fragment = call.parameterNames.isEmpty ? "{}" : "}"
      events.append(.toolArguments(index: index, fragment: fragment))
      events.append(.toolCallFinished(index: index, isComplete: isComplete))
    }
    call = nil
  }
}

extension String {
  /// The text without white space around it.
  fileprivate var trimmed: String {
    let scalars = unicodeScalars
    guard let first = scalars.firstIndex(where: { !$0.properties.isWhitespace }),
      let last = scalars.lastIndex(where: { !$0.properties.isWhitespace })
    else { return "" }
    return String(scalars[first...last])
  }
}
