// What comes back: answers are let land where there is somebody to take them, and checked against
// what was asked.

import ModelConfiguration
import Step3Model
import Tensors

extension RemoteFeedForward {
  /// An answer's head has come.
  func arrived(_ link: LinkID, _ header: WireHeader, _ id: ArrivalID, at time: Duration) {
    guard let node = node(of: link), header.kind == .combine else {
      transport.discard(id)
      hub.close(link)
      return
    }
    let (slot, shard) = (Int(header.slot), Int(header.shard))
    let byteCount = expectedByteCount(slot, shard, header)
    guard machine.isCurrent(slot: slot, sequence: header.sequence) else {
      // Late: the exchange is over.
      _ = machine.arrived(slot: slot, shard: shard, sequence: header.sequence, from: node)
      transport.discard(id)
      return
    }
    guard let byteCount else {
      // Not what was asked for: this peer cannot be believed.
      transport.discard(id)
      hub.close(link)
      return
    }
    guard
      machine.arrived(slot: slot, shard: shard, sequence: header.sequence, from: node) == .take
    else {
      transport.discard(id)
      return
    }
    do throws(TransportError) {
      guard let block = try answerBlocks.take() else {
        // Only a peer that never finishes what it sends can hold them all.
        transport.discard(id)
        hub.close(link)
        return
      }
      landings[id] = Landing(
        link: link, node: node, shard: shard, slot: slot, sequence: header.sequence,
        block: block, byteCount: byteCount, arrived: time)
      try transport.receive(id, into: answerBlocks.slice(block, byteCount))
    } catch {
      if let landing = landings.removeValue(forKey: id) { answerBlocks.give(landing.block) }
      hub.close(link)
    }
  }

  /// The size of the answer that a slot waits for; nil when the header says something else.
  private func expectedByteCount(_ slot: Int, _ shard: Int, _ header: WireHeader) -> Int? {
    guard outgoing.indices.contains(slot), let current = outgoing[slot],
      let packed = current.packed[shard], Int(header.tokens) == packed.rowCount,
      Int(header.layer) == current.layer,
      Int(header.partials) == plans[current.layer].planeCounts[shard],
      header.valueType == options.format.results.exchangeType
    else { return nil }
    let byteCount =
      Int(header.partials) * packed.rowCount
      * options.format.results.rowByteCount(context.configuration.hiddenSize)
    return Int(header.payloadByteCount) == byteCount ? byteCount : nil
  }

  func received(_ header: WireHeader, _ id: ArrivalID, _ now: Duration) {
    guard let landing = landings.removeValue(forKey: id) else { return }
    let slice = answerBlocks.slice(landing.block, landing.byteCount)
    let isWhole =
      !header.flags.contains(.checksum)
      || slice.withBytes { Checksum.crc32c($0) } == header.payloadChecksum
    guard isWhole else {
      answerBlocks.give(landing.block)
      hub.close(landing.link)
      return
    }
    guard machine.isCurrent(slot: landing.slot, sequence: landing.sequence),
      let packed = outgoing[landing.slot]?.packed[landing.shard]
    else {
      answerBlocks.give(landing.block)
      return
    }
    let tokenCount = outgoing[landing.slot]?.tokenCount ?? 0
    let answer = ShardAnswer(
      memory: slice, type: options.format.results, rowCount: packed.rowCount,
      rowOfToken: rowOfToken(packed, tokenCount))
    outgoing[landing.slot]?.answers[landing.shard] = answer
    outgoing[landing.slot]?.answerBlocks.append(landing.block)
    if let submitted = statistics.submitted(slot: landing.slot) {
      hub.noteExchange(
        landing.link, submitted: submitted, header.stamps, arrived: landing.arrived)
    }
    statistics.answered(
      slot: landing.slot, node: landing.node, shard: landing.shard, header,
      clockOffset: hub.link(landing.link)?.clockOffset ?? 0, arrived: landing.arrived, now: now)
    perform(
      machine.landed(
        slot: landing.slot, shard: landing.shard, sequence: landing.sequence,
        from: landing.node, now: now))
  }

  private func rowOfToken(_ packed: Packed, _ tokenCount: Int) -> [Int32]? {
    guard let rows = packed.rows else { return nil }
    var rowOfToken = [Int32](repeating: -1, count: tokenCount)
    for (index, token) in rows.enumerated() { rowOfToken[Int(token)] = Int32(index) }
    return rowOfToken
  }
}
