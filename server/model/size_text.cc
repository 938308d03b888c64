#include "server/model/size_text.h"

#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"

namespace orch {

double BytesOf(absl::string_view text) {
  size_t digits = 0;
  while (digits < text.size() && (absl::ascii_isdigit(static_cast<unsigned char>(text[digits])) || text[digits] == '.'))
    ++digits;
  double number = 0;
  if (!absl::SimpleAtod(text.substr(0, digits), &number)) return -1;
  const absl::string_view unit = text.substr(digits);
  if (unit.empty()) return number;
  const size_t power = absl::string_view("KMGT").find(unit[0]);
  const absl::string_view rest = unit.substr(1);
  if (power == absl::string_view::npos || (!rest.empty() && rest != "B" && rest != "i")) return -1;
  return number * std::pow(rest == "i" ? 1024.0 : 1000.0, static_cast<double>(power) + 1);
}

}  // namespace orch
