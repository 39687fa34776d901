import Foundation
import Serving
import Testing

/// Keeps a scripted server open for clients from outside: `STEP3_SCRIPTED_PORT=8123 swift test …`.
@Test(.enabled(if: ProcessInfo.processInfo.environment["STEP3_SCRIPTED_PORT"] != nil))
func servesClientsFromOutside() async throws {
  let environment = ProcessInfo.processInfo.environment
  let port = environment["STEP3_SCRIPTED_PORT"].flatMap { Int($0) } ?? 0
  let seconds = environment["STEP3_SCRIPTED_SECONDS"].flatMap { Int($0) } ?? 60
  let api = try TestAPI(
    ScriptedEngine("I am thinking.\n</think>\n\nHello there, world."), thinks: true,
    options: { $0.port = port })
  try await Task.sleep(for: .seconds(seconds))
  await api.server.stop()
}
