"""Signal-to-noise, velocity bookkeeping and mask budget of APOGEE visits and stars, beside what their headers say."""
