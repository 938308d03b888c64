// What is a part of a step's source: the digest and the listing go by one rule.
#include "server/engine/sources.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "server/base/digest.h"
#include "server/base/folder_listing.h"
#include "server/base/status.h"

namespace orch {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::SizeIs;

class SourcesTest : public testing::Test {
 protected:
  SourcesTest() : dir_(testing::TempDir() + "sources-" + Hex(RandomBytes(6))) {
    Write("train.py", "1");
    Write("lib/model.py", "2");
    Write("runs/daemon/orchd.db", "3");
  }
  ~SourcesTest() override { fs::remove_all(dir_); }

  void Write(const std::string& name, const std::string& text) const {
    fs::create_directories(fs::path(absl::StrCat(dir_, "/", name)).parent_path());
    std::ofstream(absl::StrCat(dir_, "/", name)) << text;
  }
  std::string Digest(const std::vector<std::string>& ignore = {}) const {
    const auto digest = sources_.Digest(dir_, ignore);
    EXPECT_TRUE(digest.ok()) << digest.status();
    return digest.value_or("");
  }
  std::vector<std::string> Listed(const std::vector<std::string>& ignore = {}) const {
    std::vector<std::string> out;
    const auto text = sources_.List(dir_, ignore, 1000);
    EXPECT_TRUE(text.ok()) << text.status();
    const auto entries = ReadListing(text.value_or(""), 100);
    EXPECT_TRUE(entries.ok()) << entries.status();
    if (entries.ok()) {
      for (const FolderEntry& entry : *entries) out.push_back(entry.path);
    }
    return out;
  }

  const std::string dir_;
  FileDigests digests_;
  const Sources sources_{dir_ + "/runs/daemon", &digests_};
};

TEST_F(SourcesTest, WhatNoAuthorWritesIsNoPart) {
  const std::string before = Digest();
  EXPECT_THAT(Listed(), ElementsAre("lib", "lib/model.py", "runs", "train.py"));
  Write("runs/daemon/orchd.db", "it grew");
  Write(".git/HEAD", "x");
  Write("lib/__pycache__/model.pyc", "x");
  Write("lib/loose.pyc", "x");
  EXPECT_EQ(Digest(), before);
  EXPECT_THAT(Listed(), ElementsAre("lib", "lib/model.py", "runs", "train.py"));
  Write("lib/model.py", "other");
  EXPECT_NE(Digest(), before);
}

TEST_F(SourcesTest, WhatIsIgnoredIsNoPart) {
  const std::vector<std::string> ignore = {"data/", "*.log", "lib/secret.txt"};
  const std::string before = Digest(ignore);
  for (const char* name : {"data/a", "lib/data/b", "x.log", "lib/x.log", "lib/secret.txt"}) {
    Write(name, "x");
    EXPECT_TRUE(Sources::LeftOut(ignore, name)) << name;
  }
  EXPECT_EQ(Digest(ignore), before);
  EXPECT_THAT(Listed(ignore), ElementsAre("lib", "lib/model.py", "runs", "train.py"));
  Write("secret.txt", "x");
  EXPECT_FALSE(Sources::LeftOut(ignore, "secret.txt"));
  EXPECT_NE(Digest(ignore), before);
}

TEST_F(SourcesTest, LinksAndRightsArePartsOfIt) {
  const std::string before = Digest();
  fs::create_symlink("lib/model.py", dir_ + "/inside");
  const std::string linked = Digest();
  EXPECT_NE(linked, before);
  fs::create_symlink("/etc/hostname", dir_ + "/outside");
  EXPECT_THAT(Listed(), ElementsAre("inside", "lib", "lib/model.py", "runs", "train.py"));
  fs::remove(dir_ + "/outside");
  fs::permissions(dir_ + "/train.py", fs::perms::owner_all);
  EXPECT_NE(Digest(), linked);
}

TEST_F(SourcesTest, TheDaemonsOwnFolderIsKnownByWhateverName) {
  EXPECT_TRUE(sources_.IsOwn(dir_ + "/runs/daemon"));
  EXPECT_TRUE(sources_.IsOwn(dir_ + "/runs/daemon/orchd.db"));
  EXPECT_FALSE(sources_.IsOwn(dir_ + "/runs"));
  fs::create_symlink("runs/daemon", dir_ + "/link");
  EXPECT_TRUE(sources_.IsOwn(dir_ + "/link/orchd.db"));
}

TEST_F(SourcesTest, TooMuchAndNothingAreRefused) {
  Write("data/large", std::string(998, 'x'));
  EXPECT_THAT(Listed(), SizeIs(6)) << "with two files of one byte these are 1,000, as many as may be";
  EXPECT_EQ(ReasonOf(sources_.List(dir_, {}, 999).status()), "SOURCE_TOO_LARGE");
  EXPECT_EQ(ReasonOf(sources_.Digest(dir_ + "/nowhere", {}).status()), "INPUT_MISSING");
}

}  // namespace
}  // namespace orch
