#include "client/cli/table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"

namespace orch::cli {

Table::Table(std::vector<std::string> headers) : headers_(std::move(headers)) {}

void Table::Add(std::vector<Cell> row) {
  CHECK(row.size() == headers_.size());
  for (Cell& cell : row) cell.text = Clean(cell.text);
  rows_.push_back(std::move(row));
}

std::string Table::Render(const Style& style) const {
  const size_t last = headers_.size() - 1;
  std::vector<int> widths(headers_.size());
  for (size_t c = 0; c <= last; ++c) {
    widths[c] = Width(headers_[c]);
    for (const auto& row : rows_) widths[c] = std::max(widths[c], Width(row[c].text));
  }
  std::string out;
  const auto line = [&](const auto& cell_of) {
    for (size_t c = 0; c <= last; ++c) {
      const Cell cell = cell_of(c);
      // A blank cell would shift the columns for tools that split at blanks.
      const std::string text = cell.text.empty() && c < last ? "-" : cell.text;
      absl::StrAppend(&out, style.Paint(text, text == "-" ? Color::kDim : cell.color));
      if (c < last) out.append(static_cast<size_t>(widths[c] - Width(text)) + 2, ' ');
    }
    while (out.back() == ' ') out.pop_back();
    out += '\n';
  };
  line([this](size_t c) { return Cell(headers_[c], Color::kBold); });
  for (const auto& row : rows_) line([&row](size_t c) { return row[c]; });
  return out;
}

std::string RenderFacts(const std::vector<std::pair<std::string, Cell>>& facts, const Style& style) {
  int width = 0;
  for (const auto& [key, cell] : facts) {
    if (!cell.text.empty()) width = std::max(width, Width(key));
  }
  std::string out;
  for (const auto& [key, cell] : facts) {
    if (cell.text.empty()) continue;
    absl::StrAppend(&out, style.Paint(absl::StrCat(key, ":"), Color::kDim),
                    std::string(static_cast<size_t>(width - Width(key)) + 2, ' '),
                    style.Paint(Clean(cell.text), cell.color), "\n");
  }
  return out;
}

}  // namespace orch::cli
