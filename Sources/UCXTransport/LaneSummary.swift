/// What carries an endpoint, in a few words, from the library's description of its lanes.
///
/// A lane is a line such as `lane[1]:  2:posix/memory.0 md[2]  -> … am am_bw#0`.
func laneSummary(_ description: String) -> String {
  var carriers: [String] = []
  for line in description.split(separator: "\n") where line.contains("lane[") {
    guard let bracket = line.firstIndex(of: "]") else { continue }
    let name = line[bracket...].dropFirst(2).drop { $0 == " " }.prefix { $0 != " " }
    guard let colon = name.firstIndex(of: ":") else { continue }
    let parts = name[name.index(after: colon)...].split(separator: "/")
    guard let transport = parts.first else { continue }
    let device = parts.count > 1 ? parts[1].prefix { $0 != "." } : ""
    let carrier =
      switch transport {
      case "posix", "sysv": "shm"
      case "cma": "cma"
      default: "\(transport) \(device)"
      }
    if !carriers.contains(carrier) { carriers.append(carrier) }
  }
  // Beside shared memory, TCP only watches over the peer's life.
  if carriers.contains("shm") { carriers.removeAll { $0.hasPrefix("tcp") } }
  return carriers.isEmpty ? "unknown" : carriers.sorted().reversed().joined(separator: "+")
}
