"""SDSS-V: DR19 (apred 1.3), and the nightly reduction, which adds `sdss_id` and the Gaia identifier.

The cards and shapes are those of the published data model; no file of this generation was at hand to compare with.
"""

from __future__ import annotations

from dataclasses import replace

from astra.simulate.layouts.base import IDL_HEAD, VISIT_HISTORY, Layout
from astra.simulate.layouts.dr17 import STAR_HISTORY, STAR_UNITS

_VISIT = f"""\
{IDL_HEAD}LOCID|{{locid:i}}|Location ID of field
PLATE|{{plate:i}}|Plate ID
TELESCOP|{{telescope_card:s}}|Telescope
MJD5|{{mjd:i}}|MJD of observation
FIBERID|{{fiber:i}}| APOGEE Fiber ID 1-300
DATE-OBS|{{dateobs:s}}|
EXPTIME|{{exptime:e}}|Total visit exptime per dither pos
JD-MID|{{jdmid:d}}| JD at midpoint of visit
UT-MID|{{utmid:s}}| Date at midpoint of visit
NCOMBINE|1|
FRAME1|{{frame1:i}}|Constituent frame
NPAIRS|0| Number of dither pairs combined
OBJID|{{objid:s}}| Object ID
OBJTYPE|'STAR'| Object type
RA|{{ra:d}}| targeting right ascension, deg, J2000
DEC|{{dec:d}}| targeting declination, deg, J2000
JMAG|{{j:e}}| 2MASS J magnitude
HMAG|{{h:e}}| 2MASS H magnitude
KMAG|{{k:e}}| 2MASS Ks magnitude
SNR|{{snr:e}}| median S/N, middle chip
SURVEY|{{survey:s}}| Survey definition (for targeting flags)
TARG1|0| First APOGEE targeting flag (bitwise, see docs)
TARG2|0| Second APOGEE targeting flag (bitwise, see docs)
TARG3|0| Third APOGEE targeting flag (bitwise, see docs)
TARG4|0| Fourth APOGEE targeting flag (bitwise, see docs)
SVAPTRG0|0| SDSS-V APOGEE target0
CATID|{{catid:i}}| SDSS-V catalogID
GRELEASE|'dr3'| Gaia data release
GPLX|{{plx:e}}| Gaia parallax
GPMRA|{{pmra:e}}| Gaia pmra
GPMDEC|{{pmdec:e}}| Gaia pmdec
GGMAG|{{gmag:e}}| Gaia G magnitude
GBPMAG|{{bpmag:e}}| Gaia Bp magnitude
GRPMAG|{{rpmag:e}}| Gaia Rp magnitude
HPLUS|{{hplus:e}}| Delta H (neigh-obj) mag of neighboring (+1) fib
HMINUS|{{hminus:e}}| Delta H (neigh-obj) mag of neighboring (-1) fib
ASSIGNED|1| FPS target assigned
ONTARGET|1| FPS fiber on target
VALID|1| Valid FPS target
SVTARG0|0| SDSS-V APG targeting bitmask
CARTON1|'mwm_galactic_core'| SDSS-V firstcarton
CADENCE|'bright_1x1'| SDSS-V target cadence
PROGRAM|'mwm_galactic'| SDSS-V target program
CATEGORY|'science'| SDSS-V target category
STARFLAG|{{starflag:i}}| Star data quality flag
FLUXFLAM|{{fluxflam:e}}| ADU to flux units conv factor (ergs/s/cm^2/A)
V_APRED|{{v_apred:s}}| apogee software version
APRED|{{apred:s}}| apogee reduction version
{VISIT_HISTORY}"""

_VISIT_COLUMNS = """\
APOGEE_ID:S18 TARGET_ID:S18 FILE:S40 URI:S96 APRED_VERS:S8 FIBERID:i2 PLATE:S8 EXPTIME:f4 NFRAMES:i4 MJD:i4
TELESCOPE:S6 SURVEY:S6 FIELD:S6 PROGRAMNAME:S17 OBJTYPE:S4 ASSIGNED:i2 ON_TARGET:i2 VALID:i2 RA:f8 DEC:f8 GLON:f8
GLAT:f8 HEALPIX:i4 JMAG:f4 JERR:f4 HMAG:f4 HERR:f4 KMAG:f4 KERR:f4 SRC_H:S5 PMRA:f4 PMDEC:f4 PM_SRC:S5
APOGEE_TARGET1:i4 APOGEE_TARGET2:i4 APOGEE_TARGET3:i4 APOGEE_TARGET4:i4 CATALOGID:i8 SDSS_ID:i8 GAIA_RELEASE:S3
GAIA_SOURCEID:i8 GAIA_PLX:f4 GAIA_PMRA:f4 GAIA_PMDEC:f4 GAIA_GMAG:f4 GAIA_BPMAG:f4 GAIA_RPMAG:f4
SDSSV_APOGEE_TARGET0:i8 FIRSTCARTON:S18 CADENCE:S10 PROGRAM:S12 CATEGORY:S7 TARGFLAGS:S1 SNR:f4 STARFLAG:i4
STARFLAGS:S1 DATEOBS:S23 JD:f8"""

_UNKNOWN = "-9999.990234375"

_STAR = f"""\
SIMPLE|T| conforms to FITS standard
BITPIX|8| array data type
NAXIS|0| number of array dimensions
EXTEND|T
CRVAL1|4.179| Start log10(wavelength) in subsequent HDUs
CDELT1|6E-06| Dispersion in log10(wavelength) in subsequent HDU
CRPIX1|1| Pixel of starting wavelength in subsequent HDUs
CTYPE1|'LOG-LINEAR'| Logarithmic wavelength scale in subsequent HDUs
DC-FLAG|1| Logarithmic wavelength scale in subsequent HDUs
OBJID|{{objid:s}}| Object ID
V_APRED|{{v_apred:s}}| APOGEE software version
APRED|{{apred:s}}| APOGEE reduction version
STARVER|{{starver:s}}| apStar version
HEALPIX|{{healpix:i}}| HEALPix location
SNR|{{snr:p}}| final median signal-to-noise ratio
RA|{{ra:p}}| right ascension, deg, J2000
DEC|{{dec:p}}| declination, deg, J2000
GLON|{{glon:p}}| galactic longitude, deg, J2000
GLAT|{{glat:p}}| galactic latitude, deg, J2000
JMAG|{{j:p}}| 2MASS J magnitude
JERR|{{mag_err:p}}| 2MASS J magnitude uncertainty
HMAG|{{h:p}}| 2MASS H magnitude
HERR|{{mag_err:p}}| 2MASS H magnitude uncertainty
KMAG|{{k:p}}| 2MASS Ks magnitude
KERR|{{mag_err:p}}| 2MASS Ks magnitude uncertainty
SRC_H|''| source of H-band photometry
CATID|{{catid:i}}| SDSS-V catalog ID
SVTARG0|0| SDSS-V MWM targeting flag
CARTON1|'mwm_galactic_core'| Primary SDSS-V carton
CADENCE|''| observing cadence
PROGRAM|''| SDSS-V program
CATEGORY|''| SDSS-V category
PLX|{{plx:p}}| parallax (mas)
EPLX|{_UNKNOWN}| parallax uncertainty (mas)
PMRA|{{pmra:p}}| proper motion in RA (mas/yr)
EPMRA|{_UNKNOWN}| proper motion uncertainty in RA
PMDEC|{{pmdec:p}}| proper motion in DEC (mas/yr)
EPMDEC|{_UNKNOWN}| proper motion uncertainty in DEC
GMAG|{{gmag:p}}| Gaia G-band magnitude
GERR|{_UNKNOWN}| Gaia G-band magnitude uncertainty
BPMAG|{{bpmag:p}}| Gaia BP-band magnitude
BPERR|{_UNKNOWN}| Gaia BP-band magnitude uncertainty
RPMAG|{{rpmag:p}}| Gaia RP-band magnitude
RPERR|{_UNKNOWN}| Gaia RP-band magnitude uncertainty
SVAPTRG0|0| SDSS-V APOGEE TARGET0 targeting flag
FRSTCRTN|0| SDSS-V first carton
APTARG1|0| APOGEE_TARGET1 targeting flag
APTARG2|0| APOGEE_TARGET2 targeting flag
APTARG3|0| APOGEE_TARGET3 targeting flag
AP2TARG1|0| APOGEE2_TARGET1 targeting flag
AP2TARG2|0| APOGEE2_TARGET2 targeting flag
AP2TARG3|0| APOGEE2_TARGET3 targeting flag
AP2TARG4|0| APOGEE2_TARGET4 targeting flag
NVISITS|{{nvisits:i}}| Number of visit spectra combined flag
STARFLAG|{{starflag:i}}| bitwise OR of individual visit starflags
ANDFLAG|{{starflag:i}}| bitwise AND of individual visit starflags
N_COMP|1| Maximum number of components in RV CCFs
VRAD|{{vhelio:p}}| S/N weighted mean barycentric RV
VSCATTER|{{scatter:p}}| standard deviation of visit RVs
VERR|{{verr:p}}| uncertainty in barycentric RV
RV_TEFF|{{teff:p}}| Effective temperature from RV fit
RV_LOGG|{{logg:p}}| Surface gravity from RV fit
RV_FEH|{{feh:p}}| Metallicity from RV fit
MEANFIB|{{meanfib:p}}| S/N weighted mean fiber number
SIGFIB|{{sigfib:p}}| standard deviation (unweighted) of fiber number
NRES|' 5.00 4.25 3.50'| number of pixels/resolution used for sinc"""

_PER_VISIT = """\
COMMENT VISIT {n} INFORMATION
SFILE{n}|{file:s}|  Visit #{n} spectrum file
DATE{n}|{dateobs:s}| DATE-OBS of visit {n}
JD{n}|{jdmid:p}| Julian date of visit {n}
FIBER{n}|{fiber:i}| Fiber, visit {n}
BC{n}|{bc:p}| Barycentric correction (km/s), visit {n}
CHISQ{n}|{chisq:p}| Chi-squared fit of visit {n}
VRAD{n}|{vhelio:p}| Barycentric velocity (km/s) of visit {n}
SNRVIS{n}|{snr:p}| Median S/N of visit {n}
FLAG{n}|{starflag:i}| STARFLAG for visit {n}"""

DR19 = Layout(
    release="dr19",
    apred="1.3",
    telescopes=("apo25m", "lco25m"),
    v_apred="5e07a51c0de5e07a51c0de5e07a51c0de5e07a51",
    v_apred_star="5e07a51c0de5e07a51c0de5e07a51c0de5e07a51",
    visit=_VISIT,
    rv_stage="",
    visit_columns=_VISIT_COLUMNS,
    named_hdus=True,
    star=_STAR,
    per_visit=_PER_VISIT,
    star_tail=STAR_HISTORY,
    star_units=STAR_UNITS,
    star_writer="astropy",
    float_type="f8",
    mask_type="i8",
    gaps=float("nan"),
    alone=False,
    versioned=True,
    stepwise=False,
    survey="SDSS-V",
)


def _identified(template: str) -> str:
    """Add the cards of the newest pipeline after the catalogue identifier."""
    catid = next(line for line in template.splitlines() if line.startswith("CATID|"))
    return template.replace(catid, f"{catid}\nSDSSID|{{sdss_id:i}}| SDSS-V sdss_id\nGSRCID|{{gaia:i}}| Gaia source ID")


SDSSWORK = replace(
    DR19,
    release="sdsswork",
    apred="daily",
    visit=_identified(_VISIT),
    star=_identified(_STAR).replace("SDSSID|", "GRELEASE|'dr3'| Gaia data release\nSDSSID|"),
    per_visit=_PER_VISIT.replace("SNRVIS", "VREL{n}|{vrad:p}| Doppler shift (km/s) of visit {n}\nSNRVIS"),
)
