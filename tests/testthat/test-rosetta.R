# What r/rosetta.R, the R half of the contract, promises to the Python half.
half <- new.env()
sys.source("../../r/rosetta.R", half)

test_that("an array is allocated with its dimensions, a vector without", {
  expect_equal(half$allocate("double", c(2, 3)), matrix(0, 2, 3))
  expect_null(dim(half$allocate("integer", 4)))
  expect_type(half$allocate("integer", c(2, 2, 2)), "integer")
})

test_that("what a function gives comes back in a list, an error as class, message and calls", {
  expect_equal(half$attempt(sum, 1, 2), list(3))
  failed <- half$attempt(function(x) stop("the first line\n  and the second"), 1)
  expect_null(failed[[1]])
  expect_equal(failed[[2]], "simpleError: the first line and the second")
  expect_equal(failed[[4]], "error")
  shaped <- structure(class = c("shape_error", "error", "condition"), list(message = "no shape", call = NULL))
  expect_match(half$attempt(function() stop(shaped))[[2]], "^shape_error: no shape$")
})

test_that("warnings do not stop a leg", {
  expect_warning(found <- half$attempt(function() {
    warning("careful")
    7
  }), "careful")
  expect_equal(found, list(7))
})

test_that("a leg's file finds its neighbours, and its names stay its own", {
  folder <- withr::local_tempdir()
  writeLines("shared <- 5", file.path(folder, "neighbour.R"))
  writeLines(c('source("neighbour.R", local = TRUE)', "build <- function() shared"), file.path(folder, "leg.R"))
  leg <- half$open_leg(file.path(folder, "leg.R"))
  expect_equal(leg$build(), 5)
  expect_false(exists("build", globalenv(), inherits = FALSE))
})

test_that("only packages that do not come with R are listed", {
  found <- half$package_versions()
  expect_true("testthat" %in% names(found))
  expect_false(any(c("base", "stats", "utils") %in% names(found)))
})

test_that("ordinary values are no Python objects", {
  expect_false(half$is_python(1))
  expect_true(half$is_python(structure(list(), class = c("numpy.ndarray", "python.builtin.object"))))
})
