internal import Foundation

/// The moment that `strftime_now` tells a template.
package struct TemplateDate: Sendable, Equatable {
  /// The year, as people count it.
  package let year: Int
  /// The month, from 1.
  package let month: Int
  /// The day of the month, from 1.
  package let day: Int
  /// The hour, from 0 to 23.
  package let hour: Int
  /// The minute.
  package let minute: Int
  /// The second.
  package let second: Int

  /// A moment of the Gregorian calendar.
  package init(year: Int, month: Int, day: Int, hour: Int = 0, minute: Int = 0, second: Int = 0) {
    self.year = year
    self.month = month
    self.day = day
    self.hour = hour
    self.minute = minute
    self.second = second
  }

  /// The present moment in the machine's time zone.
  package static var now: TemplateDate {
    let parts = Calendar(identifier: .gregorian).dateComponents(
      [.year, .month, .day, .hour, .minute, .second], from: Date())
    return TemplateDate(
      year: parts.year ?? 1970, month: parts.month ?? 1, day: parts.day ?? 1,
      hour: parts.hour ?? 0, minute: parts.minute ?? 0, second: parts.second ?? 0)
  }

  private static let months = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
  ]
  private static let days = [
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
  ]

  /// Days before the month in this year.
  private var daysBeforeMonth: Int {
    let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
    let lengths = [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    return lengths[..<(month - 1)].reduce(0, +)
  }

  /// The day of the week, Monday being 0.
  private var weekday: Int {
    let before = year - 1
    let days = before * 365 + before / 4 - before / 100 + before / 400 + daysBeforeMonth + day
    return (days + 6) % 7
  }

  /// Python's `strftime` in the C locale.
  func formatted(_ format: String, line: Int) throws(TemplateError) -> String {
    func padded(_ number: Int, _ width: Int = 2) -> String {
      let digits = String(number)
      return String(repeating: "0", count: max(width - digits.count, 0)) + digits
    }
    var result = ""
    var rest = format.unicodeScalars[...]
    while let scalar = rest.popFirst() {
      guard scalar == "%" else {
        result.unicodeScalars.append(scalar)
        continue
      }
      var isBare = false
      if rest.first == "-" {
        isBare = true
        rest.removeFirst()
      }
      let hour12 = (hour + 11) % 12 + 1
      let width = isBare ? 1 : 2
      switch rest.popFirst() {
      case "Y": result += padded(year, 4)
      case "y": result += padded(year % 100, width)
      case "m": result += padded(month, width)
      case "d": result += padded(day, width)
      case "e": result += (day < 10 && !isBare ? " " : "") + String(day)
      case "H": result += padded(hour, width)
      case "I": result += padded(hour12, width)
      case "M": result += padded(minute, width)
      case "S": result += padded(second, width)
      case "j": result += padded(daysBeforeMonth + day, isBare ? 1 : 3)
      case "B": result += Self.months[month - 1]
      case "b", "h": result += String(Self.months[month - 1].prefix(3))
      case "A": result += Self.days[weekday]
      case "a": result += String(Self.days[weekday].prefix(3))
      case "w": result += String((weekday + 1) % 7)
      case "u": result += String(weekday + 1)
      case "p": result += hour < 12 ? "AM" : "PM"
      case "F": result += try formatted("%Y-%m-%d", line: line)
      case "T": result += try formatted("%H:%M:%S", line: line)
      case "D": result += try formatted("%m/%d/%y", line: line)
      case "R": result += try formatted("%H:%M", line: line)
      case "n": result += "\n"
      case "t": result += "\t"
      case "%": result += "%"
      case let other:
        let letter = other.map { String(Character($0)) } ?? ""
        throw .unsupported(line: line, construct: "the date format %\(letter)")
      }
    }
    return result
  }
}
